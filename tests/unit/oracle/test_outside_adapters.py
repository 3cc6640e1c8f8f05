"""Adapters on the embedding and the output head: the closed form against simulated steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.memory.resident import adapter_parameters
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.oracle.grid import GPU
from engine.oracle.simulate import simulate

LAYERS = TrainingShape().lora_targets
SHAPES = (
    {"micro_batch": 2, "max_length": 1024, "gradient_accumulation_steps": 2},
    {"micro_batch": 1, "max_length": 512, "quantization": "nf4", "checkpoint_every": 0},
)


@pytest.mark.parametrize("shape", SHAPES, ids=["bf16", "nf4"])
@pytest.mark.parametrize("outside", [("embed_tokens", "lm_head"), ("lm_head",), ("embed_tokens",)], ids="+".join)
def test_allocated_memory_within_half_a_percent(outside: tuple[str, ...], shape: dict[str, object]) -> None:
    spec = replace(catalog_index()["llama-3.1-8b"], parameters=None)
    wanted = TrainingShape(lora_targets=(*LAYERS, *outside), **shape)  # type: ignore[arg-type]
    simulated, estimate = simulate(spec, wanted, gpu=GPU), estimate_memory(spec, wanted, gpu=GPU)
    assert estimate.allocated_bytes == pytest.approx(simulated.allocated_bytes, rel=0.005)


def test_they_are_counted_as_adapters() -> None:
    spec = catalog_index()["llama-2-7b-hf"]
    without = adapter_parameters(spec, TrainingShape(lora_r=8))
    both = adapter_parameters(spec, TrainingShape(lora_r=8, lora_targets=(*LAYERS, "embed_tokens", "lm_head")))
    assert both - without == 2 * 8 * (32000 + 4096)
