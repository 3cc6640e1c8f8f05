"""The closed form of memory against the simulated step, by the committed table and by simulating a part of it again."""

from __future__ import annotations

import importlib.util
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.oracle.grid import GPU, Case, adapter_cases, grid_cases, kernel_cases

ROOT = Path(__file__).parents[3]
RECORD = json.loads((ROOT / "bench/results/memory-grid.json").read_text())
CASES = {case.name: case for case in grid_cases()}
SAMPLE = tuple(CASES)[::10]


def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_memory", ROOT / "bench/memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def errors(figure: str) -> list[float]:
    found = []
    for name, simulated in RECORD["simulated_bytes"].items():
        case = CASES[name]
        estimate = estimate_memory(case.spec, case.shape, gpu=GPU)
        found.append(getattr(estimate, f"{figure}_bytes") / simulated[figure] - 1)
    return found


def test_the_grid_is_wide() -> None:
    assert len(CASES) >= 200
    assert set(RECORD["simulated_bytes"]) == set(CASES)
    assert {case.spec.family for case in CASES.values()} >= {"llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"}
    shapes = [case.shape for case in CASES.values()]
    assert {shape.quantization for shape in shapes} == {"none", "nf4", "fp4", "int8"}
    assert {shape.checkpoint_every for shape in shapes} == {0, 1, 2}
    assert {shape.method for shape in shapes} == {"lora", "full"}
    assert {shape.compute_dtype for shape in shapes} == {"bf16", "fp32"}


def test_allocated_memory_over_the_whole_grid() -> None:
    found = errors("allocated")
    assert min(found) >= -0.02
    assert statistics.median(abs(error) for error in found) <= 0.001
    assert max(found) <= 0.03


def test_reserved_memory_is_never_far_below() -> None:
    """Holes between tensors follow no formula: the estimate is a bound, generous for the smallest models."""
    found = errors("reserved")
    assert min(found) >= -0.02
    assert statistics.median(found) <= 0.03
    assert sum(error > 0.05 for error in found) <= 0.25 * len(found)


def test_the_documented_table_is_the_committed_one() -> None:
    text = (ROOT / "docs/memory.md").read_text()
    for line in bench().table(RECORD["simulated_bytes"]):
        assert line in text


@pytest.mark.parametrize("name", SAMPLE)
def test_simulating_again_gives_the_committed_peak(name: str) -> None:
    from engine.oracle.simulate import simulate

    case = CASES[name]
    found = simulate(case.spec, case.shape, gpu=GPU)
    committed = RECORD["simulated_bytes"][name]
    assert found.allocated_bytes == pytest.approx(committed["allocated"], rel=0.011), "extended from two depths"
    # A shallow Gemma 3 has no layer of full attention, and not its rotary table.
    assert found.load_bytes == pytest.approx(committed["load"], abs=1024)
    estimate = estimate_memory(case.spec, case.shape, gpu=GPU)
    assert estimate.allocated_bytes / found.allocated_bytes - 1 >= -0.02


def test_what_learns_beside_adapters_meets_each_architecture() -> None:
    shapes = [case.shape for case in adapter_cases()]
    assert len({case.name for case in adapter_cases()}) == len(shapes) >= 24
    assert {shape.modules_to_save for shape in shapes} >= {("embed_tokens",), ("lm_head",), ("embed_tokens", "lm_head")}
    assert {case.spec.tie_word_embeddings for case in adapter_cases() if case.shape.modules_to_save} == {True, False}
    assert {(shape.quantization, shape.checkpoint_every) for shape in shapes if shape.use_dora} >= {
        ("none", 0),
        ("none", 1),
        ("nf4", 0),
        ("nf4", 1),
    }


@pytest.mark.parametrize("case", adapter_cases()[::3], ids=lambda case: case.name)
def test_what_learns_beside_adapters_is_counted(case: Case) -> None:
    from engine.oracle.simulate import simulate

    simulated, estimate = simulate(case.spec, case.shape, gpu=GPU), estimate_memory(case.spec, case.shape, gpu=GPU)
    assert -0.01 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= 0.01
    assert estimate.reserved_bytes / simulated.reserved_bytes - 1 >= -0.02


def test_kernels_and_checkpointing_meet_each_family() -> None:
    shapes = [case.shape for case in kernel_cases()]
    assert len({case.name for case in kernel_cases()}) == len(shapes) >= 200
    assert {case.spec.family for case in kernel_cases()} >= {"llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"}
    ways = {(shape.kernels, shape.offload_inputs, shape.keep_attention) for shape in shapes}
    assert {(kernels, *way) for kernels in ("plain", "liger") for way in ((True, False), (False, True))} <= ways


@pytest.mark.parametrize("case", kernel_cases()[::7], ids=lambda case: case.name)
def test_kernels_and_checkpointing_are_counted(case: Case) -> None:
    from engine.oracle.simulate import simulate

    simulated, estimate = simulate(case.spec, case.shape, gpu=GPU), estimate_memory(case.spec, case.shape, gpu=GPU)
    assert -0.006 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= 0.02
    assert estimate.reserved_bytes / simulated.reserved_bytes - 1 >= -0.006


def test_every_layer_simulated_is_the_extended_figure() -> None:
    from engine.oracle.simulate import simulate

    for name in ("smollm2-135m-instruct lora nf4 bf16 r16 7t 1x2048 c1", "llama-3.2-1b-instruct full bf16 1x1024 c1"):
        case = CASES.get(name) or next(case for case in CASES.values() if case.name.startswith(name.split()[0]))
        few, all_layers = (simulate(case.spec, case.shape, gpu=GPU, whole=whole) for whole in (False, True))
        assert few.allocated_bytes == pytest.approx(all_layers.allocated_bytes, rel=0.001)
        assert few.reserved_bytes == pytest.approx(all_layers.reserved_bytes, rel=0.05), "holes follow no line"
        assert all_layers.layers_run == (case.spec.num_hidden_layers,)
        assert all_layers.reserved_bytes == RECORD["simulated_bytes"][case.name]["reserved"]


def test_the_gpu_part_runs_the_engines_trainer() -> None:
    """On a processor, as far as it goes: three steps of a tiny model, nothing measured."""
    module = bench()
    assert len(module.gpu_cases()) >= 30
    from dataclasses import replace

    tiny = replace(
        CASES[SAMPLE[0]].spec,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=256,
    )
    shape = TrainingShape(micro_batch=2, max_length=64, compute_dtype="fp32", gradient_accumulation_steps=2)
    found = module.run_case(Case("tiny", tiny, shape), device="cpu")
    assert found.pop("tokens_per_second") > 0
    assert found == {"steps": module.STEPS}
