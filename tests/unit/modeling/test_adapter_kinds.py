"""Adapters that start or learn in another way: what is saved stands on the original base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.demo.paths import model_dir
from engine.modeling.adapters import attach, keep_initial, load_adapter, save_adapter
from engine.modeling.load import load_base
from engine.profile.schema import Profile
from engine.train.optimizer import build_optimizer

IDS = torch.arange(5, 37)[None]


def settings(**lora: Any) -> Profile:
    return Profile.model_validate(
        {
            "model": {"name_or_path": str(model_dir()), "dtype": "fp32"},
            "tuning": {"method": "lora"},
            "lora": {"r": 4, "alpha": 8, **lora},
            "data": {"datasets": [{"path": "none.jsonl"}]},
            "train": {"learning_rate": 1e-2, "optim": "adamw_torch"},
            "launch": {"device": "cpu"},
        }
    )


def base() -> Any:
    return load_base(settings(), Path(), quantized=False, device="cpu", warn=lambda code, message: None)


def trained(asked: Profile, initial: Path) -> Any:
    """The demo model with adapters after a few steps."""
    model = base().requires_grad_(False)
    model = attach(model, asked)
    keep_initial(model, initial)
    optimizer = build_optimizer(model, asked, lambda code, message: None)
    for _ in range(5):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize(
    "lora",
    [{}, {"init": "pissa"}, {"init": "pissa", "use_rslora": True}, {"plus_ratio": 8.0}, {"use_dora": True}],
    ids=str,
)
def test_the_saved_adapter_gives_the_trained_logits_on_the_original_base(tmp_path: Path, lora: dict[str, Any]) -> None:
    asked = settings(**lora)
    model = trained(asked, tmp_path / "initial")
    save_adapter(model, tmp_path / "adapter", asked, tmp_path / "initial")
    again = load_adapter(base(), tmp_path / "adapter").eval()
    with torch.no_grad():
        ours, theirs, plain = (one(input_ids=IDS).logits for one in (model, again, base()))
    assert torch.allclose(ours, theirs, atol=2e-4)
    assert (ours - plain).abs().max() > 0.05, "the training changed something"


def test_pissa_saves_a_plain_adapter_of_twice_the_rank(tmp_path: Path) -> None:
    asked = settings(init="pissa")
    model = trained(asked, tmp_path / "initial")
    save_adapter(model, tmp_path / "adapter", asked, tmp_path / "initial")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 8
    assert config["init_lora_weights"] is True


def test_pissa_begins_at_the_base_with_its_largest_parts() -> None:
    model = attach(base().requires_grad_(False), settings(init="pissa")).eval()
    with torch.no_grad():
        assert torch.allclose(model(input_ids=IDS).logits, base()(input_ids=IDS).logits, atol=2e-4)
    norms = [value.norm() for name, value in model.named_parameters() if "lora_B" in name]
    assert min(norms) > 0


def test_lora_plus_gives_b_its_own_rate_and_loses_no_parameter() -> None:
    asked = settings(plus_ratio=16.0)
    model = attach(base().requires_grad_(False), asked)
    optimizer = build_optimizer(model, asked, lambda code, message: None)
    rates = {name: 0.0 for name, value in model.named_parameters() if value.requires_grad}
    owners = {id(value): name for name, value in model.named_parameters()}
    for group in optimizer.param_groups:
        for value in group["params"]:
            rates[owners[id(value)]] = group["lr"]
    assert {rate for name, rate in rates.items() if "lora_B" in name} == {0.16}
    assert {rate for name, rate in rates.items() if "lora_A" in name} == {0.01}


def test_an_adapter_on_embedding_and_head_is_saved_without_the_whole_matrices(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    def untied() -> Any:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=512, tie_word_embeddings=False, **sizes)).eval()

    asked = settings(target_modules=["q_proj", "embed_tokens", "lm_head"])
    model = attach(untied().requires_grad_(False), asked)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad and "_B" in name:
                value.normal_()
    save_adapter(model, tmp_path / "adapter", asked, tmp_path)
    again = load_adapter(untied(), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(model.eval()(input_ids=IDS).logits, again(input_ids=IDS).logits, atol=1e-5)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 4 * 512 * 32
