"""Experts in 4 bit train like the same experts dequantized, and no layer's dense copy outlives its product."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.modeling import adapters, checkpointing, experts, experts_load, forward, four_bit, load
from engine.profile.schema import Profile

FAMILIES = ("qwen3_moe", "qwen2_moe", "mixtral", "olmoe", "gpt_oss")
LENGTH, ROWS = 48, 2


def write_model(folder: Path, family: str = "qwen3_moe") -> Path:
    """A tiny mixture with random weights."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=160,
        num_experts=8,
        num_local_experts=8,
        num_experts_per_tok=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("mixture"))


def settings_for(folder: Path, method: str = "nf4", dtype: str = "fp32", **lora: Any) -> Profile:
    return Profile.model_validate(
        {
            "model": {"name_or_path": str(folder), "dtype": dtype, "max_length": LENGTH},
            "quantization": {"method": method},
            "lora": {"r": 4, **lora},
            "data": {"datasets": [{"path": "none.jsonl"}]},
        }
    )


def base_of(settings: Profile, *, quantized: bool = True) -> Any:
    model = load.load_base(settings, Path(), quantized=quantized, device="cpu", warn=lambda *words: None, packed=True)
    return model.requires_grad_(False)


def batch() -> dict[str, Any]:
    ids = torch.randint(5, 160, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return {
        "input_ids": ids,
        "labels": ids.clone(),
        "position_ids": torch.arange(LENGTH).expand(ROWS, LENGTH),
        "cu_seq_lens": torch.arange(0, (ROWS + 1) * LENGTH, LENGTH, dtype=torch.int32),
        "max_doc_length": LENGTH,
    }


def loss_and_gradients(model: Any, *, stir: bool = True) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    if stir:
        torch.manual_seed(1)
        with torch.no_grad():
            for name, value in sorted(model.named_parameters()):
                if "lora_B" in name:
                    value.normal_(0, 0.05)
    model.train()
    model.zero_grad()
    loss = forward.loss_sum(model, batch())
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def dequantize(model: Any) -> Any:
    """The same weights without packing: what transformers' own forward pass multiplies with."""
    for _, module in experts.stacks_of(model):
        module.__dict__.pop("forward", None)
        for name in experts.STACKS:
            packed = module._parameters[name]
            dense = four_bit.dequantized(packed, packed.quant_state.dtype)
            module._parameters[name] = torch.nn.Parameter(dense, requires_grad=False)
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("method", "dtype"), [("nf4", "fp32"), ("fp4", "fp32"), ("nf4", "bf16")])
def test_loss_and_gradients_are_those_of_the_dequantized_experts(
    tmp_path: Path, family: str, method: str, dtype: str
) -> None:
    settings = settings_for(write_model(tmp_path, family), method, dtype)
    packed = base_of(settings)
    assert all(experts.is_packed(module) for _, module in experts.stacks_of(packed))
    assert len(experts.stacks_of(packed)) == 3
    plain = dequantize(base_of(settings))
    found, expected = (loss_and_gradients(adapters.attach(each, settings)) for each in (packed, plain))
    assert torch.equal(found[0], expected[0])
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        assert value.abs().sum() > 0
        assert torch.equal(found[1][name], value), name


def test_loss_is_near_that_of_the_model_in_full_precision(folder: Path) -> None:
    quantized = loss_and_gradients(adapters.attach(base_of(settings_for(folder)), settings_for(folder)))
    plain = loss_and_gradients(adapters.attach(base_of(settings_for(folder), quantized=False), settings_for(folder)))
    assert quantized[0] == pytest.approx(float(plain[0]), rel=0.03)
    assert not torch.equal(quantized[0], plain[0])


def test_packed_experts_take_about_half_a_byte_a_weight(folder: Path) -> None:
    model = base_of(settings_for(folder))
    for _, module in experts.stacks_of(model):
        for name in experts.STACKS:
            packed = module._parameters[name]
            assert packed.numel() * packed.element_size() * 2 == packed.quant_state.shape.numel()
    whole = sum(p.numel() for p in base_of(settings_for(folder), quantized=False).parameters())
    assert adapters.parameter_counts(model)[1] == whole


def test_int8_leaves_experts_as_they_are(folder: Path) -> None:
    model = base_of(settings_for(folder, "int8"))
    for _, module in experts.stacks_of(model):
        assert not experts.is_packed(module)
        assert module.gate_up_proj.dtype == torch.float32


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("learning", [False, True])
def test_one_layer_at_a_time_is_dequantized(
    folder: Path, monkeypatch: pytest.MonkeyPatch, every: int, learning: bool
) -> None:
    settings = settings_for(folder, experts=learning)
    model = adapters.attach(base_of(settings), settings)
    expected = loss_and_gradients(model)
    checkpointing.enable(model, every)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = calls = 0
    plain = four_bit.dequantized

    def watched(weight: Any, dtype: torch.dtype) -> torch.Tensor:
        nonlocal most, calls
        dense = plain(weight, dtype)
        if dense.dim() == 3:
            calls += 1
            alive.append(weakref.ref(dense.untyped_storage()))
            most = max(most, sum(each() is not None for each in alive))
        return dense

    monkeypatch.setattr(four_bit, "dequantized", watched)
    gc.disable()
    try:
        found = loss_and_gradients(model)
    finally:
        gc.enable()
    assert most == 1
    # Forward and backward for both stacks of each layer, and forward once more where a layer is recomputed.
    assert calls == 3 * 2 * (3 if every else 2)
    assert torch.equal(found[0], expected[0])
    for name, value in expected[1].items():
        assert torch.equal(found[1][name], value), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["none", "nf4"])
def test_adapters_on_experts_learn_as_peft_forms_them(tmp_path: Path, family: str, method: str) -> None:
    settings = settings_for(write_model(tmp_path, family), method, experts=True)
    quantized = method != "none"
    ours = adapters.attach(base_of(settings, quantized=quantized), settings)
    base = base_of(settings, quantized=quantized)
    theirs = adapters.attach(dequantize(base) if quantized else base, settings)
    for module in theirs.modules():
        module.__dict__.pop("forward", None)
    found, expected = loss_and_gradients(ours), loss_and_gradients(theirs)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    assert sum(".experts." in name for name in found[1]) == 3 * 4
    for name, value in expected[1].items():
        assert value.abs().sum() > 0, name
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4 * float(value.abs().max()), msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_leaves_experts_and_router_frozen(tmp_path: Path, family: str) -> None:
    settings = settings_for(write_model(tmp_path, family))
    model = adapters.attach(base_of(settings), settings)
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert any(".q_proj." in name for name in trained)
    assert not [name for name in trained if ".experts." in name or ".gate." in name]
    assert any(".shared_expert." in name for name in trained) == (family == "qwen2_moe")


def test_adapters_on_experts_have_the_rank_that_was_asked_for(folder: Path) -> None:
    settings = settings_for(folder, experts=True)
    model = adapters.attach(base_of(settings), settings)
    per_expert = 4 * (64 + 64) + 4 * (32 + 64)
    counted = sum(value.numel() for name, value in model.named_parameters() if ".experts." in name and "lora" in name)
    assert counted == 3 * 8 * per_expert


def test_adapters_on_experts_can_be_switched_off(folder: Path) -> None:
    settings = settings_for(folder, experts=True)
    model = adapters.attach(base_of(settings), settings)
    alone = forward.loss_sum(base_of(settings), batch())
    stirred, _ = loss_and_gradients(model)
    with model.disable_adapter():
        assert torch.equal(forward.loss_sum(model, batch()), alone)
    assert not torch.equal(stirred, alone)


def test_an_adapter_of_packed_experts_loads_in_plain_peft(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    settings = settings_for(folder, experts=True)
    model = adapters.attach(base_of(settings), settings)
    loss_and_gradients(model)
    adapters.save_adapter(model, tmp_path, settings, tmp_path)
    again = adapters.load_adapter(base_of(settings), tmp_path)
    assert torch.equal(forward.loss_sum(again, batch()), forward.loss_sum(model, batch()))

    ids = {"input_ids": batch()["input_ids"]}
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(tmp_path)).eval()
    here = adapters.load_adapter(base_of(settings, quantized=False), tmp_path).eval()
    with torch.no_grad():
        expected = plain(**ids).logits
        torch.testing.assert_close(here(**ids).logits, expected, rtol=1e-3, atol=1e-4)
        merged = plain.merge_and_unload()(**ids).logits
    torch.testing.assert_close(merged, expected, rtol=1e-3, atol=1e-4)


def test_what_learns_is_said(folder: Path) -> None:
    frozen, learning = settings_for(folder), settings_for(folder, experts=True)
    assert "4-bit, stay frozen" in experts.in_words(adapters.attach(base_of(frozen), frozen))
    plain = base_of(learning, quantized=False)
    assert "float32, carry adapters" in experts.in_words(adapters.attach(plain, learning))


def test_packing_a_whole_model_is_packing_it_while_loading(folder: Path) -> None:
    settings = settings_for(folder)
    whole = base_of(settings, quantized=False)
    experts_load.pack(whole, load.quantization_config(settings))
    for (_, here), (_, there) in zip(experts.stacks_of(whole), experts.stacks_of(base_of(settings)), strict=True):
        for name in experts.STACKS:
            assert torch.equal(here._parameters[name], there._parameters[name])
