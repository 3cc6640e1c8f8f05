"""What the allocator keeps with adapters on the head, of high rank and behind dropout.

`bench/memory_edges.py` has more rows, with every layer.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.hardware.machine import Gpu
from engine.memory.phases import peak
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index

A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
WITH_HEAD = (*TrainingShape().lora_targets, "lm_head")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gemma-3-270m-it", {"lora_targets": WITH_HEAD, "max_length": 1024, "micro_batch": 2}),
        ("qwen2.5-0.5b-instruct", {"lora_targets": WITH_HEAD, "lora_dropout": 0.05, "kernels": "liger"}),
        ("qwen2.5-0.5b-instruct", {"lora_targets": WITH_HEAD, "use_dora": True, "max_length": 1024}),
        ("qwen2.5-0.5b-instruct", {"lora_r": 256, "lora_dropout": 0.1, "max_length": 1024, "micro_batch": 4}),
        ("llama-3.2-1b-instruct", {"lora_r": 256, "quantization": "int8"}),
        ("qwen3-30b-a3b", {"method": "freeze", "trainable_layers": 2, "max_length": 1024}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reserved_memory_is_not_far_below_with_rare_adapters(name: str, settings: dict[str, Any]) -> None:
    from engine.oracle.simulate import simulate

    spec, shape = catalog_index()[name], TrainingShape(**settings)
    found, formula = simulate(spec, shape, gpu=A100), peak(spec, shape, A100)
    assert formula.reserved_bytes >= 0.98 * found.reserved_bytes
    assert formula.allocated_bytes >= 0.985 * found.allocated_bytes


def test_a_head_adapter_formed_with_the_head_takes_one_chunk() -> None:
    spec, shape = catalog_index()["gemma-3-270m-it"], TrainingShape(micro_batch=4, kernels="liger")
    plain, adapted = (
        peak(spec, TrainingShape(micro_batch=4, kernels="liger", lora_targets=t), A100)
        for t in (shape.lora_targets, WITH_HEAD)
    )
    chunk = 1024 * spec.vocab_size * 2
    assert adapted.allocated_bytes - plain.allocated_bytes < chunk // 4
