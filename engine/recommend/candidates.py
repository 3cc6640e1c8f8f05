"""The search itself: configurations of one model on one device, and the best of them.

Order of preference: the asked length before shorter ones; plain 16-bit weights before quantized ones; a comfortable
fit before a tight one; then speed, and less memory among equals. Fields that a person set are never varied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.hardware.machine import Cpu
from engine.memory.activations import KEEPING, host_bytes
from engine.memory.device import attention_kernel
from engine.memory.phases import peak, resting_bytes
from engine.memory.recompute import CHOICES, CPU_CHOICES, Recompute
from engine.memory.resident import States, states
from engine.memory.shape import LOSS_CHUNK_TOKENS, TrainingShape, learns_whole
from engine.models.packing import alone_reason
from engine.models.spec import ModelSpec
from engine.recommend.budget import Target
from engine.recommend.kernels import choose_kernels
from engine.recommend.plan import CONTEXT, MAIN_MEMORY, MEMORY, SPEED, Requirements
from engine.speed.rates import Rates
from engine.speed.roofline import device_rates, speed_at

HEADROOM = 0.10
"""Share of the available memory that has to stay free for an OK."""
DEFAULT_LENGTH = 2048
SHORTEST_LENGTH = 512
SLOW_TOKENS_PER_SECOND = 30.0
"""Below this a CPU run is not comfortable: a million tokens take over nine hours."""
SPEED_TIE = 0.98
"""Of the fastest speed: what comes so near counts as equal, and the smallest is taken."""
_LARGEST_MICRO_BATCH = 64
_PINNED_SHARE = 0.5
"""Most of the free main memory that offloaded inputs may take: pinned memory cannot be swapped out."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration with what it takes."""

    shape: TrainingShape
    device_bytes: int
    tokens_per_second: float | None
    verdict: str
    limit: str = ""
    """What speaks against an `OK`, as in `Plan.limit`."""


def verdict_of(device_bytes: int, available: int) -> str:
    """`OK` with at least 10 % headroom, `TIGHT` when it fits, else `NO`."""
    if device_bytes > available:
        return "NO"
    return "OK" if device_bytes <= available * (1 - HEADROOM) else "TIGHT"


def evaluate(
    spec: ModelSpec, shape: TrainingShape, target: Target, rates: Rates | None, learned: States | None = None
) -> Candidate:
    """Memory, speed and verdict of one shape; `learned`: its states, where they are known."""
    needed = peak(spec, shape, target.gpu, target.calibration, learned).device_bytes
    speed = speed_at(spec, shape, rates, learned) if rates else None
    verdict = verdict_of(needed, target.available_bytes)
    limit = "" if verdict == "OK" else MEMORY
    if verdict == "OK" and target.device == "cpu" and speed is not None and speed < SLOW_TOKENS_PER_SECOND:
        verdict, limit = "TIGHT", SPEED
    if verdict != "NO" and shape.max_length > spec.max_position_embeddings:
        verdict, limit = "NO", CONTEXT
    if verdict != "NO" and host_bytes(spec, shape) > _PINNED_SHARE * target.ram_bytes:
        verdict, limit = "NO", MAIN_MEMORY
    return Candidate(shape, needed, speed, verdict, limit)


def find_best(spec: ModelSpec, target: Target, cpu: Cpu, dtype: str, requirements: Requirements) -> Candidate:
    """The best configuration; when none fits, the one that takes the least."""
    rates = device_rates(_base_shape(spec, target, dtype, requirements, 1), target.gpu, cpu, target.measured)
    smallest: Candidate | None = None
    for length in lengths(spec, requirements):
        base = _base_shape(spec, target, dtype, requirements, length)
        storages = tuple(_storages(base, requirements))
        found: list[Candidate] = []
        for storage in storages:
            candidate = _best_with(spec, storage, target, rates, requirements)
            if candidate.verdict == "OK":
                return candidate
            found.append(candidate)
        tight = next((candidate for candidate in found if candidate.verdict == "TIGHT"), None)
        if tight is not None:
            return tight
        smallest = smallest or min(found, key=lambda candidate: candidate.device_bytes)
        if all(_never_fits(spec, storage, target) for storage in storages):
            break
    assert smallest is not None
    return smallest


def outlook(spec: ModelSpec, target: Target, cpu: Cpu, dtype: str, requirements: Requirements) -> str:
    """The best verdict that `find_best` could come to, without searching: `OK`, `TIGHT` or `NO`."""
    if target.calibration is not None and target.calibration.knows(spec):
        return "OK"
    base = _base_shape(spec, target, dtype, requirements, lengths(spec, requirements)[-1])
    resting = [(storage, resting_bytes(spec, storage)) for storage in _storages(base, requirements)]
    best = min((verdict_of(size, target.available_bytes) for _, size in resting), key=("OK", "TIGHT", "NO").index)
    rates = device_rates(base, target.gpu, cpu, target.measured) if best == "OK" and target.device == "cpu" else None
    if rates is None:
        return best
    fastest = max(speed_at(spec, _shape(one, batches(requirements)[-1], Recompute(0)), rates) for one, _ in resting)
    return "OK" if fastest >= SLOW_TOKENS_PER_SECOND else "TIGHT"


def _never_fits(spec: ModelSpec, shape: TrainingShape, target: Target) -> bool:
    """Whether weights and optimizer alone, which no length or batch changes, are too much: nothing else need be tried.

    False where a run of this model was measured: that counts, not the closed form.
    """
    if target.calibration is not None and target.calibration.knows(spec):
        return False
    return resting_bytes(spec, shape) > target.available_bytes


def lengths(spec: ModelSpec, requirements: Requirements) -> tuple[int, ...]:
    """Sequence lengths to try: the asked one alone, else 2048 (or the model's context) and shorter."""
    if requirements.max_length is not None:
        return (requirements.max_length,)
    first = min(DEFAULT_LENGTH, spec.max_position_embeddings)
    shorter = [length for length in (first // 2, first // 4) if length >= SHORTEST_LENGTH]
    return (first, *shorter)


def batches(requirements: Requirements) -> tuple[tuple[int, int], ...]:
    """(micro-batch, accumulation) pairs, smallest micro-batch first; their product is the asked total."""
    micro, steps, total = requirements.micro_batch, requirements.gradient_accumulation_steps, requirements.total_batch
    if micro is not None:
        return ((micro, steps if steps is not None else max(1, round(total / micro))),)
    if steps is not None:
        return ((max(1, round(total / steps)), steps),)
    sizes = [size for size in range(1, min(total, _LARGEST_MICRO_BATCH) + 1) if total % size == 0]
    return tuple((size, total // size) for size in sizes)


def _base_shape(spec: ModelSpec, target: Target, dtype: str, requirements: Requirements, length: int) -> TrainingShape:
    return TrainingShape(
        method=requirements.method or "lora",
        trainable_layers=requirements.trainable_layers if requirements.method == "freeze" else 0,
        compute_dtype=dtype,
        max_length=length,
        document_tokens=_document_tokens(spec, target, requirements),
        lora_r=requirements.lora_r,
        lora_targets=requirements.lora_targets or spec.all_linear,
        lora_dropout=requirements.lora_dropout,
        lora_experts=requirements.lora_experts,
        lora_bias=requirements.lora_bias,
        modules_to_save=requirements.modules_to_save,
        use_dora=requirements.use_dora,
        loss_chunk_tokens=0 if requirements.rewards else LOSS_CHUNK_TOKENS,
        optimizer=requirements.optimizer or ("adamw_torch_fused" if target.device == "cuda" else "adamw_torch"),
        kernels=choose_kernels(spec, target.device, target.gpu, requirements.kernels)[0],
        device=target.device,
    )


def _document_tokens(spec: ModelSpec, target: Target, asked: Requirements) -> int:
    """0 where documents have rows of their own, and on processors, whose attention pads none."""
    return 0 if target.device == "cpu" or alone_reason(spec, target.device) else asked.document_tokens


def recomputes(spec: ModelSpec, base: TrainingShape, target: Target, asked: Requirements) -> tuple[Recompute, ...]:
    """Ways of checkpointing to try, the cheapest in time first: what was asked, or all that mean something here."""
    if asked.recompute is not None:
        return (asked.recompute,)
    if target.device == "cpu":
        return CPU_CHOICES
    kernel = attention_kernel(spec, base, target.gpu) in KEEPING
    # Where a card shares main memory nothing is gained by moving there.
    apart = target.gpu is None or not target.gpu.unified_memory
    return tuple(
        choice for choice in CHOICES if (kernel or not choice.keep_attention) and (apart or not choice.offload_inputs)
    )


def _storages(base: TrainingShape, requirements: Requirements) -> Iterator[TrainingShape]:
    """Ways to store weights and optimizer, most exact first."""
    if requirements.quantization is not None:
        base = replace(base, quantization=requirements.quantization)
    yield base
    if base.device == "cpu":
        return
    if learns_whole(base):
        if requirements.optimizer is None:
            yield replace(base, optimizer="adamw_bnb_8bit")
    elif requirements.quantization is None:
        yield replace(base, quantization="nf4")


def _best_with(
    spec: ModelSpec, base: TrainingShape, target: Target, rates: Rates | None, requirements: Requirements
) -> Candidate:
    """Best micro-batch and checkpointing for one way of storing the model."""
    pairs = batches(requirements)
    ways = recomputes(spec, base, target, requirements)
    learned = states(spec, base)
    if _never_fits(spec, base, target):
        return evaluate(spec, _shape(base, pairs[0], ways[-1]), target, rates, learned)
    fits: list[Candidate] = []
    fastest = 0.0
    for recompute in ways:
        if fastest and rates and speed_at(spec, _shape(base, pairs[-1], recompute), rates, learned) <= fastest:
            continue
        for pair in pairs:
            candidate = evaluate(spec, _shape(base, pair, recompute), target, rates, learned)
            if candidate.verdict == "NO":
                break
            fits.append(candidate)
            if candidate.verdict == "OK":
                fastest = max(fastest, _speed(candidate))
    if not fits:
        return evaluate(spec, _shape(base, pairs[0], ways[-1]), target, rates, learned)
    return _pick(fits)


def _shape(base: TrainingShape, pair: tuple[int, int], recompute: Recompute) -> TrainingShape:
    return replace(
        base,
        micro_batch=pair[0],
        gradient_accumulation_steps=pair[1],
        checkpoint_every=recompute.every,
        offload_inputs=recompute.offload_inputs,
        keep_attention=recompute.keep_attention,
    )


def _pick(fits: list[Candidate]) -> Candidate:
    comfortable = [candidate for candidate in fits if candidate.verdict == "OK"] or fits
    fastest = max(_speed(candidate) for candidate in comfortable)
    near = [candidate for candidate in comfortable if _speed(candidate) >= SPEED_TIE * fastest]
    # Main memory is not pinned where the device's own is enough.
    return min(near, key=lambda candidate: (candidate.shape.offload_inputs, candidate.device_bytes))


def _speed(candidate: Candidate) -> float:
    """Tokens per second, or without known rates a stand-in with the same order: less recomputing first."""
    if candidate.tokens_per_second is not None:
        return candidate.tokens_per_second
    shape = candidate.shape
    if not shape.checkpoint_every:
        return 1.0
    return 1.0 - 0.2 / shape.checkpoint_every + 0.03 * shape.keep_attention - 0.02 * shape.offload_inputs
