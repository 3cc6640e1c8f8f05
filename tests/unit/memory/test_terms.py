"""The closed form against published and simulated figures, and against common sense."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from engine.hardware.machine import Gpu
from engine.memory import device
from engine.memory.activations import host_bytes
from engine.memory.phases import peak
from engine.memory.resident import matrix_bytes, quantized_bytes, states, weight_bytes
from engine.memory.shape import GIB, MIB, MemoryEstimate, TrainingShape
from engine.memory.terms import TERM_NAMES, estimate_memory
from engine.models.catalog import catalog_index, load_catalog
from engine.models.spec import ModelSpec
from engine.text import format_bytes

A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
T4 = Gpu("Tesla T4", compute_capability=(7, 5))
RTX_4090 = Gpu("GeForce RTX 4090", compute_capability=(8, 9))
LLAMA = catalog_index()["llama-3.1-8b"]
TARGET = TrainingShape(quantization="nf4", micro_batch=4, max_length=2048)


def allocated(shape: TrainingShape, spec: ModelSpec = LLAMA) -> int:
    return estimate_memory(spec, shape, gpu=A100).allocated_bytes


def term(estimate: MemoryEstimate, name: str) -> int:
    return next(found.bytes for found in estimate.terms if found.name == name)


def test_nf4_weights_of_qwen_7b_match_the_measured_bytes() -> None:
    spec = catalog_index()["qwen2.5-7b-instruct"]
    packed, scales = int(3111.5 * MIB), int(388.9375 * MIB)
    plain = quantized_bytes(spec, "nf4", False)
    # 512 bytes of code book for each of 28 x 7 matrices come on top.
    assert plain == pytest.approx(packed + scales + 196 * 512, abs=MIB // 16)


def test_double_quantization_and_int8_per_parameter() -> None:
    count, rows = 4096 * 14336, 14336
    assert matrix_bytes(count, rows, "nf4", True) / count == pytest.approx(0.515869, abs=1e-4)
    assert matrix_bytes(count, rows, "nf4", False) / count == pytest.approx(0.5625, abs=1e-4)
    assert matrix_bytes(count, rows, "int8", False) == count + 4 * rows


def test_the_target_case_is_the_simulated_peak_of_this_trainer() -> None:
    """The oracle runs the engine's own step: 10,022.2 MiB. 9.47 GiB were simulated before without fp32 masters."""
    estimate = estimate_memory(LLAMA, TARGET, gpu=A100)
    trainable = 41_943_040
    assert estimate.trainable_parameters == trainable
    masters_and_fp32_states = trainable * (16 - 8)
    assert estimate.allocated_bytes == pytest.approx(9.47 * GIB + masters_and_fp32_states, rel=0.01)
    assert estimate.allocated_bytes == pytest.approx(10_022.2 * MIB, rel=0.001)
    assert estimate.allocated_bytes > 10_022.2 * MIB, "an error here has to be on the safe side"
    assert estimate.peak_phase == "layer"


def test_without_checkpointing_the_target_case_is_the_simulated_one() -> None:
    shape = replace(TARGET, checkpoint_every=0)
    assert allocated(shape) == pytest.approx(51.3 * GIB + 41_943_040 * 8, rel=0.03)


def test_reserved_follows_the_allocator_replay() -> None:
    """Replayed with the launcher's expandable segments: 10,022 MiB allocated, 10,688 reserved."""
    estimate = estimate_memory(LLAMA, TARGET, gpu=A100)
    assert estimate.reserved_bytes / estimate.allocated_bytes == pytest.approx(10_688 / 10_022, abs=0.01)


def test_each_layer_adds_its_weights_states_and_checkpoint() -> None:
    """186.3 MiB a layer were simulated with fp32 adapters; bf16 adapters with masters take 2 B more each."""
    shape = replace(TARGET, gradient_accumulation_steps=1)
    four, eight = (peak(replace(LLAMA, num_hidden_layers=n, parameters=None), shape, A100) for n in (4, 8))
    grown = (eight.allocated_bytes - four.allocated_bytes) + (four.moment.gradients - eight.moment.gradients)
    adapters = 41_943_040 / 32
    assert grown / 4 == pytest.approx(186.3 * MIB + 2 * adapters, rel=0.002)


def test_terms_add_up_and_are_explained() -> None:
    for shape in (TARGET, replace(TARGET, method="full", quantization="none"), replace(TARGET, device="cpu")):
        estimate = estimate_memory(LLAMA, shape, gpu=A100)
        assert tuple(found.name for found in estimate.terms) == TERM_NAMES
        assert sum(found.bytes for found in estimate.terms) == estimate.device_bytes
        assert all(found.detail for found in estimate.terms)
        assert estimate.device_bytes > estimate.reserved_bytes > estimate.allocated_bytes


def test_the_term_of_activations_names_what_is_kept_and_where() -> None:
    every = replace(TARGET, checkpoint_every=1)
    ways = (every, replace(every, keep_attention=True), replace(every, offload_inputs=True))
    plain, attention, offload = (
        next(found.detail for found in estimate_memory(LLAMA, shape, gpu=A100).terms if found.name == "activations")
        for shape in ways
    )
    assert "tokens, inputs of 32 layers" in plain
    assert "inputs and attention outputs of 32 layers" in attention
    assert "inputs of 2 layers at a time" in offload
    assert f"{format_bytes(host_bytes(LLAMA, ways[2]))} of inputs wait in main memory" in offload


def test_sixteen_bytes_a_trained_parameter_in_every_precision() -> None:
    for dtype in ("bf16", "fp16", "fp32"):
        found = states(LLAMA, replace(TARGET, compute_dtype=dtype))
        total = found.weights_bytes + found.gradients_bytes + found.masters_bytes + found.moments_bytes
        assert total == 16 * found.parameters


def test_eight_bit_optimizers() -> None:
    full = replace(TARGET, method="full", quantization="none")
    plain, small = states(LLAMA, full), states(LLAMA, replace(full, optimizer="adamw_bnb_8bit"))
    assert plain.masters_bytes + plain.moments_bytes == 12 * plain.parameters
    assert small.masters_bytes + small.moments_bytes == pytest.approx(small.parameters * (2 + 8 / 256), rel=1e-6)
    paged = estimate_memory(LLAMA, replace(full, optimizer="paged_adamw_8bit"), gpu=A100)
    assert term(paged, "optimizer") == 0
    assert any("paged" in note for note in paged.notes)


def test_full_fine_tuning_peaks_in_the_optimizer_step() -> None:
    estimate = estimate_memory(LLAMA, TrainingShape(method="full", max_length=512), gpu=A100)
    assert estimate.peak_phase == "optimizer"
    # 16 bytes a parameter, and fp32 gradients a portion at a time: here that of the embedding.
    assert estimate.allocated_bytes == pytest.approx(16 * 8_030_261_248 + 4 * 128_256 * 4096, rel=0.001)


def test_a_large_vocabulary_needs_more_than_a_small_one() -> None:
    small = replace(LLAMA, vocab_size=32_000, parameters=None)
    large = replace(LLAMA, vocab_size=151_936, parameters=None)
    shape = TrainingShape(micro_batch=1)
    few, many = estimate_memory(small, shape), estimate_memory(large, shape)
    assert term(many, "weights") > term(few, "weights")
    assert term(many, "loss") - term(few, "loss") > 0.5 * GIB


def test_the_loss_stays_one_chunk_however_long_the_batch() -> None:
    moments = [peak(LLAMA, TrainingShape(micro_batch=n), A100).device_bytes for n in (1, 2)]
    assert moments[1] - moments[0] < 1.5 * GIB, "full logits would take 2.9 GiB a sequence"


def test_experts_are_stored_in_four_bit_and_not_in_int8() -> None:
    spec = catalog_index()["qwen3-30b-a3b"]
    assert 15 * GIB < weight_bytes(spec, "nf4", True, 2) < 17 * GIB
    assert weight_bytes(spec, "int8", True, 2) > 55 * GIB
    estimate = estimate_memory(spec, TARGET)
    assert "experts" in {term.name: term.detail for term in estimate.terms}["weights"]
    assert any(
        "int8 leaves experts" in note for note in estimate_memory(spec, replace(TARGET, quantization="int8")).notes
    )


def test_qwen3_30b_a3b_trains_in_four_bit_on_24_gib() -> None:
    spec = catalog_index()["qwen3-30b-a3b"]
    shape = TrainingShape(quantization="nf4", lora_targets=("q_proj", "k_proj", "v_proj", "o_proj"))
    assert peak(spec, shape, RTX_4090).device_bytes < 23 * GIB


def test_what_learns_of_a_mixture_is_said() -> None:
    spec = catalog_index()["qwen3-30b-a3b"]
    frozen = estimate_memory(spec, TARGET)
    assert any("experts and routers stay frozen" in note for note in frozen.notes)
    learning = estimate_memory(spec, replace(TARGET, lora_experts=True))
    assert not any("stay frozen" in note for note in learning.notes)
    # 128 experts in 48 layers, rank 16 on 2048 -> 1536 and 768 -> 2048.
    added = 48 * 128 * 16 * (2048 + 1536 + 768 + 2048)
    assert learning.trainable_parameters - frozen.trainable_parameters == added


def test_older_cards_repeat_key_heads_only_while_their_kernel_runs() -> None:
    shape = replace(TARGET, compute_dtype="fp16", checkpoint_every=0)
    assert peak(LLAMA, shape, T4).allocated_bytes == peak(LLAMA, shape, A100).allocated_bytes
    plain = replace(shape, quantization="none")
    assert peak(LLAMA, replace(plain, compute_dtype="bf16"), A100).allocated_bytes < (
        peak(LLAMA, plain, A100).allocated_bytes
    ), "fp16 takes copies where layers are not quantized"


@pytest.mark.parametrize(
    ("dtype", "batch", "length", "measured_mib"),
    [("bf16", 1, 512, 1673), ("bf16", 1, 1024, 2441), ("fp32", 1, 512, 3053), ("fp32", 1, 1024, 4531)],
)
def test_on_a_processor_memory_is_the_process(
    dtype: str, batch: int, length: int, measured_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resident memory of the engine's own step on a 135M model with glibc and torch's CPU build, after four steps."""
    monkeypatch.setattr(device, "libraries_bytes", lambda: device.LIBRARIES_BYTES)
    shape = TrainingShape(
        compute_dtype=dtype,
        device="cpu",
        micro_batch=batch,
        max_length=length,
        checkpoint_every=0,
        optimizer="adamw_torch",
    )
    estimate = estimate_memory(catalog_index()["smollm2-135m-instruct"], shape)
    assert estimate.device_bytes / MIB == pytest.approx(measured_mib, rel=0.08)


MORE = [
    {"max_length": 4096},
    {"micro_batch": 8},
    {"lora_r": 64},
    {"lora_dropout": 0.1},
    {"checkpoint_every": 2},
    {"checkpoint_every": 0},
    {"compute_dtype": "fp32"},
    {"double_quant": False},
    {"quantization": "none"},
]


@pytest.mark.parametrize("more", MORE, ids=lambda more: next(iter(more)) + "=" + str(next(iter(more.values()))))
@pytest.mark.parametrize("spec", load_catalog()[::4], ids=lambda spec: spec.name)
def test_more_of_anything_never_takes_less(spec: ModelSpec, more: dict[str, object]) -> None:
    base = peak(spec, TARGET, A100)
    grown = peak(spec, replace(TARGET, **more), A100)  # type: ignore[arg-type]
    assert grown.device_bytes >= base.device_bytes


def test_an_estimate_takes_under_a_millisecond() -> None:
    estimate_memory(LLAMA, TARGET, gpu=A100)
    best = min(_seconds_for_100() for _ in range(3))
    assert best / 100 < 0.001


def _seconds_for_100() -> float:
    start = time.perf_counter()
    for _ in range(100):
        estimate_memory(LLAMA, TARGET, gpu=A100)
    return time.perf_counter() - start


def test_targets_that_match_nothing_are_told() -> None:
    estimate = estimate_memory(LLAMA, replace(TARGET, lora_targets=("query_key_value",)))
    assert estimate.trainable_parameters == 0
    assert any("nothing would learn" in note for note in estimate.notes)


def test_fused_layers_are_met_by_llama_names() -> None:
    spec = catalog_index()["phi-4"]
    assert states(spec, TARGET).parameters == 16 * 40 * (5120 + 7680 + 5120 + 5120 + 5120 + 35840 + 17920 + 5120)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        (TARGET, "ask with --exact"),
        (replace(TARGET, device="cpu", quantization="none"), "expect a larger error"),
        (replace(TARGET, compute_dtype="fp16"), "ask with --exact"),
    ],
)
def test_an_unknown_family_says_what_to_do(shape: TrainingShape, advice: str) -> None:
    notes = estimate_memory(replace(LLAMA, family="newcomer"), shape).notes
    assert any("newcomer" in note and note.endswith(advice) for note in notes)


def test_biases_and_whole_modules_learn_beside_the_adapters() -> None:
    spec = replace(catalog_index()["qwen2.5-7b-instruct"], parameters=None)
    plain = states(spec, TARGET)
    width = spec.head_dim * (spec.num_attention_heads + 2 * spec.num_key_value_heads)
    assert states(spec, replace(TARGET, lora_bias="all")).parameters - plain.parameters == 28 * width
    saved = states(spec, replace(TARGET, modules_to_save=("embed_tokens", "lm_head")))
    added = 2 * spec.vocab_size * spec.hidden_size
    assert saved.parameters - plain.parameters == added
    assert saved.weights_bytes - plain.weights_bytes == 2 * added
    assert states(spec, replace(TARGET, method="full", modules_to_save=("lm_head",))) == states(
        spec, replace(TARGET, method="full")
    )
