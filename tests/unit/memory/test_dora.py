"""Weight-decomposed adapters against the simulated step, and what they add to plain ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index

T4 = Gpu("Tesla T4", compute_capability=(7, 5))
A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
QWEN = replace(catalog_index()["qwen2.5-0.5b-instruct"], parameters=None)
DORA = TrainingShape(micro_batch=1, max_length=1024, use_dora=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"checkpoint_every": 0},
        {"checkpoint_every": 2},
        {"quantization": "nf4"},
        {"quantization": "nf4", "checkpoint_every": 0, "lora_dropout": 0.1},
        {"quantization": "int8"},
        {"compute_dtype": "fp32", "lora_targets": ("q_proj", "v_proj")},
    ],
)
def test_the_closed_form_is_the_simulated_peak(settings: dict[str, object]) -> None:
    from engine.oracle.simulate import simulate

    shape = replace(DORA, **settings)  # type: ignore[arg-type]
    simulated = simulate(QWEN, shape, gpu=A100).allocated_bytes
    assert -0.01 <= estimate_memory(QWEN, shape, gpu=A100).allocated_bytes / simulated - 1 <= 0.03


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama-3.1-8b", {"max_length": 8192}),
        ("qwen2.5-0.5b-instruct", {"max_length": 2048}),
        ("gemma-3-1b-it", {"max_length": 4096, "micro_batch": 2, "lora_dropout": 0.05}),
        ("phi-3.5-mini-instruct", {"quantization": "int8"}),
        ("smollm2-1.7b-instruct", {"quantization": "fp4", "checkpoint_every": 0, "max_length": 512}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_closed_form_is_the_simulated_peak_under_automatic_casting(name: str, settings: dict[str, object]) -> None:
    from engine.oracle.simulate import simulate

    shape = replace(DORA, compute_dtype="fp16", **{"quantization": "nf4", **settings})  # type: ignore[arg-type]
    spec = catalog_index()[name]
    simulated, estimate = simulate(spec, shape, gpu=T4), estimate_memory(spec, shape, gpu=T4)
    assert -0.01 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= 0.05
    assert estimate.reserved_bytes >= simulated.reserved_bytes


def test_one_magnitude_learns_for_each_output() -> None:
    plain, decomposed = (
        estimate_memory(QWEN, replace(DORA, use_dora=on), gpu=A100).trainable_parameters for on in (False, True)
    )
    outputs = sum(n_out for _, n_out in QWEN.sizes.linear_shapes.values())
    assert decomposed - plain == QWEN.num_hidden_layers * outputs


def test_full_fine_tuning_has_no_adapters_to_decompose() -> None:
    full = replace(DORA, method="full")
    assert estimate_memory(QWEN, full, gpu=A100) == estimate_memory(QWEN, replace(full, use_dora=False), gpu=A100)
