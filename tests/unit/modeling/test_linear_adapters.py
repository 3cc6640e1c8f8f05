"""Adapters on linear attention: where `all-linear` puts them is what the plan counts, and plain PEFT loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig

from engine.memory.resident import adapter_parameters
from engine.memory.shape import TrainingShape
from engine.modeling import adapters, wrappers
from engine.models.config import spec_from_config
from tests.unit.train.conftest import make_settings

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 16}
EYES = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
TURNS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 0, 0], "partial_rotary_factor": 0.25}
SEEING = {"text_config": {**TEXT, "rope_parameters": TURNS}, "vision_config": EYES}


def base(kind: str, options: dict[str, Any]) -> Any:
    config = AutoConfig.for_model(kind, **options)
    torch.manual_seed(0)
    return wrappers.generating_class(config).from_config(config, dtype=torch.float32)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=torch.arange(12)[None], use_cache=False).logits
    return found


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("qwen3_5_text", TEXT),
        ("qwen3_5_moe_text", TEXT | SHARED),
        ("qwen3_next", TEXT | SHARED),
        ("qwen3_5", SEEING),
    ],
)
def test_adapters_are_where_the_plan_counts_them_and_load_in_plain_peft(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = base(kind, options)
    spec = spec_from_config(model.config.to_dict(), kind, "config.json", source="directory", path=None)
    settings = make_settings()
    adapted = adapters.attach(model, settings)
    learning = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    assert learning == adapter_parameters(spec, TrainingShape(lora_r=settings.lora.r, lora_targets=spec.all_linear))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    names = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    assert any("linear_attn" in name for name in names)
    # vLLM and others look for the whole model's names where it also sees.
    assert all(("language_model" in name) == (kind == "qwen3_5") for name in names)
    adapted.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(base(kind, options), str(tmp_path))
    assert torch.equal(logits(again), logits(adapted))
    assert not torch.equal(logits(again), logits(base(kind, options)))
