"""Linear attention: the closed form against a simulated step of transformers' own model, two layers wide enough."""

from __future__ import annotations

from typing import Any

import pytest

from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.config import spec_from_config

A100 = Gpu("A100", compute_capability=(8, 0))
SIZES: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "vocab_size": 4_000,
    "max_position_embeddings": 8192,
    "linear_num_value_heads": 16,
    "linear_num_key_heads": 8,
}

EXPERTS = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 512,
           "shared_expert_intermediate_size": 512}  # fmt: skip
SMALL = {"intermediate_size": 256}


def apart(kind: str, options: dict[str, Any], **settings: Any) -> float:
    """Closed form / simulated - 1, of the allocated peak."""
    pytest.importorskip("torch")
    from transformers import AutoConfig

    from engine.oracle.simulate import simulate

    config = AutoConfig.for_model(kind, **{**SIZES, **options}).to_dict()
    spec = spec_from_config(config, kind, "config.json", source="directory", path=None)
    usual = {"micro_batch": 2, "max_length": 512, "lora_targets": tuple(spec.sizes.linear_shapes)}
    shape = TrainingShape(**{**usual, **settings})
    simulated = simulate(spec, shape, config=config, gpu=A100, whole=True).allocated_bytes
    return estimate_memory(spec, shape, gpu=A100).allocated_bytes / simulated - 1


@pytest.mark.parametrize(
    ("kind", "options", "settings"),
    [
        ("qwen3_5_text", {}, {}),
        # A scan that takes more than the feed-forward part, then a norm; rows that are no multiple of a chunk.
        ("qwen3_5_text", {**SMALL, "linear_key_head_dim": 256, "linear_value_head_dim": 64}, {"max_length": 610}),
        ("qwen3_5_text", {**SMALL, "linear_key_head_dim": 64, "linear_value_head_dim": 256}, {"quantization": "nf4"}),
        ("qwen3_5_text", {}, {"checkpoint_every": 0}),
        ("qwen3_5_text", {}, {"compute_dtype": "fp32"}),
        ("qwen3_5_text", {}, {"compute_dtype": "fp16"}),
        ("qwen3_5_text", {}, {"method": "full"}),
        ("qwen3_5_moe_text", EXPERTS, {"quantization": "nf4"}),
        ("qwen3_next", EXPERTS, {"checkpoint_every": 0}),
    ],
)
def test_the_closed_form_is_that_of_a_simulated_step(
    kind: str, options: dict[str, Any], settings: dict[str, Any]
) -> None:
    assert -0.02 <= apart(kind, options, **settings) <= 0.05
