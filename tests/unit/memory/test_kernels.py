"""What Triton kernels, int8's outlier columns and ways of checkpointing change in the closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.hardware.machine import Gpu
from engine.memory.activations import cost_of, host_bytes
from engine.memory.outliers import chance, columns
from engine.memory.phases import keeps_last_layer, peak
from engine.memory.recompute import CHOICES, recompute_in, recompute_of
from engine.memory.shape import MIB, TrainingShape
from engine.models.catalog import catalog_index

A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
T4 = Gpu("Tesla T4", compute_capability=(7, 5))
LLAMA = catalog_index()["llama-3.1-8b"]
STEP = TrainingShape(micro_batch=4, max_length=2048)


def allocated(shape: TrainingShape) -> int:
    return peak(LLAMA, shape, A100).allocated_bytes


def test_a_llama_block_keeps_what_liger_keeps() -> None:
    """Measured byte by byte with liger-kernel 0.8.5: 8h + 4q + 4k + 6f + 4H + 8 + 14r; plain 12h + ... + 8f."""
    hidden, query, key = LLAMA.hidden_size, LLAMA.sizes.query_width, LLAMA.sizes.key_width
    inner, heads, rank = LLAMA.intermediate_size, LLAMA.num_attention_heads, 16
    rest = 4 * query + 4 * key + 4 * heads + 8 + 14 * rank
    shape = replace(STEP, kernels="liger")
    assert cost_of(LLAMA, shape, "varlen").saved == 8 * hidden + 6 * inner + rest == 139_624
    assert cost_of(LLAMA, STEP, "varlen").saved == 12 * hidden + 8 * inner + rest == 184_680


def test_families_without_a_row_keep_what_they_kept() -> None:
    unknown = replace(LLAMA, family="apertus")
    assert cost_of(unknown, replace(STEP, kernels="liger"), "varlen") == cost_of(unknown, STEP, "varlen")


def test_a_processor_has_no_kernels() -> None:
    shape = replace(STEP, device="cpu")
    assert peak(LLAMA, replace(shape, kernels="liger")) == peak(LLAMA, shape)


@pytest.mark.parametrize(
    ("hidden", "published"), [(896, 1e-9), (1152, 1e-7), (2048, 4.9e-5), (2560, 2.6e-4), (4096, 3.4e-3)]
)
def test_how_likely_an_outlier_is(hidden: int, published: float) -> None:
    assert chance(hidden) == pytest.approx(published, rel=0.5)


def test_outlier_columns_are_of_gpus_and_int8_alone() -> None:
    shape = replace(STEP, quantization="int8", micro_batch=1, max_length=1024)
    assert columns(LLAMA, shape) == pytest.approx(0.97 * LLAMA.intermediate_size, rel=0.02)
    for other in ({"device": "cpu"}, {"quantization": "nf4"}, {"method": "full"}):
        assert columns(LLAMA, replace(shape, **other)) == 0  # type: ignore[arg-type]


def test_reentrant_int8_keeps_a_layers_input_alone() -> None:
    shape = replace(STEP, quantization="int8")
    assert cost_of(LLAMA, shape, "varlen").boundary == 2 * LLAMA.hidden_size
    assert cost_of(LLAMA, replace(shape, device="cpu"), "products").boundary > 2 * LLAMA.hidden_size


def test_each_way_of_checkpointing_takes_less_than_the_one_before() -> None:
    shape = replace(STEP, kernels="liger")
    sizes = [allocated(choice.on(shape)) for choice in CHOICES]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_setting_means_what_it_says(choice: object) -> None:
    found = recompute_of(choice.setting())  # type: ignore[attr-defined]
    assert found == choice == recompute_in(found.on(STEP))


def test_inputs_wait_in_main_memory_but_for_those_at_work() -> None:
    shape = replace(STEP, kernels="liger")
    one = 2 * LLAMA.hidden_size * 4 * 2048
    moved = replace(shape, offload_inputs=True)
    assert host_bytes(LLAMA, moved) == 31 * one
    assert host_bytes(LLAMA, shape) == 0
    assert 28 * one <= allocated(shape) - allocated(moved) <= 31 * one


def test_keeping_attention_costs_its_output() -> None:
    shape = replace(STEP, kernels="liger")
    kept = 2 * LLAMA.sizes.query_width + 4 * LLAMA.num_attention_heads
    # One layer's output is there at the peak either way.
    more = allocated(replace(shape, keep_attention=True)) - allocated(shape)
    assert more == 31 * kept * 4 * 2048


def test_the_last_layer_is_kept_only_where_the_peak_stays() -> None:
    found = {}
    for rows in (1, 4, 16):
        shape = replace(STEP, kernels="liger", micro_batch=rows, lora_targets=("q_proj", "v_proj"))
        found[rows] = keeps_last_layer(LLAMA, shape, A100)
    assert set(found.values()) == {True, False}
    assert not keeps_last_layer(LLAMA, replace(STEP, device="cpu"))
    assert not keeps_last_layer(LLAMA, replace(STEP, quantization="int8", micro_batch=16), A100), "its nodes hold on"
    assert not keeps_last_layer(LLAMA, replace(STEP, checkpoint_every=2), A100), "layer 31 is not recomputed"


def test_soft_caps_build_squares_only_where_nothing_compiles() -> None:
    gemma, shape = catalog_index()["gemma-2-2b-it"], replace(STEP, compute_dtype="fp16", max_length=4096)
    squares = peak(gemma, shape, T4).allocated_bytes - peak(gemma, shape, A100).allocated_bytes
    assert squares > 4096 * 4096 * gemma.num_attention_heads * 8
    assert squares > 500 * MIB
