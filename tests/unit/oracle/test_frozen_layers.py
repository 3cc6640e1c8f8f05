"""The closed form against simulated steps where the last layers learn alone, and for optimizers with fewer states."""

from __future__ import annotations

from typing import Any

import pytest

from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.oracle.grid import GPU

MODELS = ("llama-3.2-1b-instruct", "qwen2.5-0.5b-instruct", "gemma-2-2b-it")
FREEZES: tuple[dict[str, Any], ...] = (
    {"trainable_layers": 2, "micro_batch": 1, "max_length": 1024},
    {
        "trainable_layers": 4,
        "micro_batch": 2,
        "max_length": 2048,
        "checkpoint_every": 0,
        "gradient_accumulation_steps": 2,
    },
    {"trainable_layers": 3, "micro_batch": 4, "max_length": 1024, "checkpoint_every": 2},
)


def error(model: str, shape: TrainingShape) -> float:
    from engine.oracle.simulate import simulate

    spec = catalog_index()[model]
    simulated = simulate(spec, shape, gpu=GPU).allocated_bytes
    return estimate_memory(spec, shape, gpu=GPU).allocated_bytes / simulated - 1


@pytest.mark.parametrize("options", FREEZES, ids=lambda options: f"last {options['trainable_layers']}")
@pytest.mark.parametrize("model", MODELS)
def test_frozen_layers_keep_nothing(model: str, options: dict[str, Any]) -> None:
    assert -0.01 <= error(model, TrainingShape(method="freeze", **options)) <= 0.06


@pytest.mark.parametrize("optimizer", ["adafactor", "lion_32bit", "lion_8bit"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_optimizers_with_fewer_states(optimizer: str, method: str) -> None:
    shape = TrainingShape(method=method, micro_batch=1, max_length=512, lora_r=64, optimizer=optimizer)
    assert abs(error("qwen2.5-0.5b-instruct", shape)) <= 0.005


def test_fewer_learning_layers_take_less() -> None:
    spec = catalog_index()["llama-3.1-8b"]

    def needed(**options: Any) -> int:
        return estimate_memory(spec, TrainingShape(max_length=1024, **options), gpu=GPU).device_bytes

    sizes = [needed(method="freeze", trainable_layers=layers) for layers in (1, 2, 8, 32)]
    assert sizes == sorted(sizes)
    assert sizes[-1] < needed(method="full")
    assert needed(optimizer="lion_8bit", method="full") < needed(optimizer="adamw_bnb_8bit", method="full")
