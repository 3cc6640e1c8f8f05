"""The closed form against the simulated step where a mixture's experts are in 4 bit or carry adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.oracle.grid import GPU
from engine.oracle.simulate import simulate

MIXTURE = replace(
    catalog_index()["qwen3-30b-a3b"],
    name="mixture",
    hidden_size=1024,
    intermediate_size=512,
    num_hidden_layers=8,
    num_experts=32,
    num_experts_per_token=4,
    num_attention_heads=16,
    num_key_value_heads=4,
    head_dim=64,
    vocab_size=32_000,
    layer_groups=(),
    parameters=None,
)
BASE = TrainingShape(quantization="nf4", lora_targets=("q_proj", "k_proj", "v_proj", "o_proj"))
SHAPES: list[dict[str, Any]] = [
    {},
    {"max_length": 512},
    {"micro_batch": 4, "double_quant": False},
    {"checkpoint_every": 0},
    {"kernels": "liger"},
    {"quantization": "fp4", "compute_dtype": "fp32", "max_length": 1024},
    {"quantization": "int8", "max_length": 1024},
    {"lora_experts": True},
    {"lora_experts": True, "micro_batch": 4, "kernels": "liger"},
    {"lora_experts": True, "checkpoint_every": 0},
    {"lora_experts": True, "quantization": "none", "lora_r": 8},
]


@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()))
def test_experts_are_counted(changes: dict[str, Any]) -> None:
    shape = replace(BASE, **changes)
    simulated, estimate = simulate(MIXTURE, shape, gpu=GPU), estimate_memory(MIXTURE, shape, gpu=GPU)
    assert -0.002 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= 0.01
    assert estimate.reserved_bytes / simulated.reserved_bytes - 1 >= -0.02
