"""The fused way of adapters against PEFT's own: outputs, gradients, and which layers may take it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from engine.modeling import fused_lora, joint_lora
from engine.runs.events import read_events
from engine.train import acceleration
from engine.train.allowed import FUSED
from tests.unit.train.conftest import make_settings, make_trainer

BNB = pytest.importorskip("bitsandbytes")


class Net(torch.nn.Module):
    """Two linear layers, one with a bias, on rows [2, 3, 64]."""

    def __init__(self, kind: Any = torch.nn.Linear) -> None:
        super().__init__()
        options = {"compute_dtype": torch.float32} if kind is BNB.nn.Linear4bit else {}
        self.up, self.down = kind(64, 128, bias=True, **options), kind(128, 64, bias=False, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.nn.functional.silu(self.up(x)))


def adapted(kind: Any = torch.nn.Linear, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    net = Net(kind).to(dtype) if kind is torch.nn.Linear else Net(kind).to("cpu")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["up", "down"], **options)
    model = get_peft_model(net, config, autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if "lora" in name:
            weight.data = weight.data.to(dtype)
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def outcome(model: Any, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Output, input's gradient, adapters' gradients."""
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_(True)
    model.zero_grad()
    out = model(x)
    (out * torch.arange(64, dtype=dtype)).sum().backward()
    return [out.detach(), x.grad, *(each.grad.clone() for each in model.parameters() if each.grad is not None)]


@pytest.mark.parametrize("kind", [torch.nn.Linear, BNB.nn.Linear4bit], ids=["plain", "nf4"])
def test_outputs_and_gradients_are_pefts(kind: Any) -> None:
    model = adapted(kind)
    plain = outcome(model)
    fused_lora.fuse(model)
    assert len(fused_lora.adapted_layers(model)) == 2
    for one, other in zip(plain, outcome(model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    fused_lora.unfuse(model)
    assert all(torch.equal(one, other) for one, other in zip(plain, outcome(model), strict=True))


def test_16_bit_differs_by_rounding_only() -> None:
    model = adapted(dtype=torch.bfloat16)
    plain = outcome(model, torch.bfloat16)
    fused_lora.fuse(model)
    for one, other in zip(plain, outcome(model, torch.bfloat16), strict=True):
        assert float((one - other).float().norm()) <= 0.02 * float(one.float().norm())


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_kinds_of_adapters_stay_as_they_are(options: dict[str, Any]) -> None:
    assert fused_lora.adapted_layers(adapted(**options)) == []


def test_switched_off_adapters_and_trained_biases_are_respected() -> None:
    model = adapted(bias="all")
    plain = outcome(model)
    fused_lora.fuse(model)
    found = outcome(model)
    assert len(found) == len(plain) == 2 + 4 + 1
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    with model.disable_adapter():
        base = model(torch.ones(2, 3, 64))
    assert not torch.equal(base, model(torch.ones(2, 3, 64)))


def wrong(model: Any) -> None:
    """Another result."""
    for layer in fused_lora.adapted_layers(model):
        layer.forward = lambda x, layer=layer: type(layer).forward(layer, x) * 1.1


def test_a_fused_way_that_is_wrong_is_left_out_aloud(tmp_path: Path) -> None:
    settings = make_settings()
    trainer = make_trainer(
        tmp_path / "run", settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})})
    )
    batch = trainer._prepare_inputs(trainer.collator([trainer.train_dataset[0]]))
    right = acceleration.take(FUSED, trainer.model, batch, trainer.objective, trainer.job.warn)
    FUSED.undo(trainer.model)
    bad = acceleration.Acceleration(FUSED.name, FUSED.code, wrong, FUSED.undo)
    assert (right, acceleration.take(bad, trainer.model, batch, trainer.objective, trainer.job.warn)) == (True, False)
    trainer.job.events.close()
    events, _ = read_events(tmp_path / "run" / "events.jsonl")
    (warning,) = [event for event in events if event["type"] == "warning"]
    assert warning["code"] == "fused_fallback"
    assert re.match(r"adapters go PEFT's own way: .* in layer 0 is off by \d+\.\d%$", warning["message"])
    assert all("forward" not in layer.__dict__ for layer in fused_lora.adapted_layers(trainer.model))
    assert not any(bool(each.any()) for name, each in trainer.model.named_parameters() if "lora_B" in name)


class Siblings(torch.nn.Module):
    """Query, key and value of one input, as transformers calls them; `mixed`: the key gets another input."""

    def __init__(self, kind: Any = torch.nn.Linear, mixed: bool = False) -> None:
        super().__init__()
        options = {"compute_dtype": torch.float32} if kind is BNB.nn.Linear4bit else {}
        self.q_proj = kind(64, 128, bias=True, **options)
        self.k_proj, self.v_proj = (kind(64, 64, bias=False, **options) for _ in range(2))
        self.mixed = mixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        other = x * 2 if self.mixed else x
        return torch.cat([self.q_proj(x).sin(), self.k_proj(other), self.v_proj(x).cos()], dim=-1)


def adapted_siblings(kind: Any = torch.nn.Linear, mixed: bool = False) -> Any:
    torch.manual_seed(0)
    net = Siblings(kind, mixed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"], rank_pattern={"k_proj": 8})
    model = get_peft_model(net if kind is torch.nn.Linear else net.to("cpu"), config, autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def sibling_outcome(model: Any) -> list[torch.Tensor]:
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    model.zero_grad()
    out = model(x)
    (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    return [out.detach(), x.grad, *(each.grad.clone() for each in model.parameters() if each.grad is not None)]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", [torch.nn.Linear, BNB.nn.Linear4bit], ids=["plain", "nf4"])
def test_layers_with_one_input_are_formed_together(kind: Any, mixed: bool) -> None:
    model = adapted_siblings(kind, mixed)
    plain = sibling_outcome(model)
    fused_lora.fuse(model)
    for _ in range(5):
        for one, other in zip(plain, sibling_outcome(model), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    fused_lora.unfuse(model)
    assert all(torch.equal(one, other) for one, other in zip(plain, sibling_outcome(model), strict=True))


def test_one_product_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"made": 0}
    original = joint_lora._JointAdapters.forward

    def counted(*arguments: Any) -> Any:
        calls["made"] += 1
        return original(*arguments)

    monkeypatch.setattr(joint_lora._JointAdapters, "forward", counted)
    model = adapted_siblings()
    fused_lora.fuse(model)
    sibling_outcome(model)
    assert calls["made"] == 1


def test_a_pass_that_broke_off_leaves_nothing_stale() -> None:
    """An exception between two siblings: the next pass computes anew."""
    model = adapted_siblings()
    plain = sibling_outcome(model)
    fused_lora.fuse(model)
    x = torch.randn(2, 3, 64)
    model.base_model.model.q_proj(x)
    for one, other in zip(plain, sibling_outcome(model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
