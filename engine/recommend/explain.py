"""Every chosen value with its reason, in the words that `engine fit`, profiles and the deck show.

Not here: choosing (`candidates.py`) and what else would fit (`alternatives.py`).
"""

from __future__ import annotations

from engine.hardware.capabilities import best_dtype
from engine.hardware.cards import card_title
from engine.hardware.machine import Machine
from engine.memory.recompute import Recompute, recompute_in
from engine.memory.shape import TrainingShape, learns_whole
from engine.models.packing import alone_reason
from engine.models.spec import ModelSpec
from engine.models.stored import NAMES
from engine.recommend.budget import Target
from engine.recommend.candidates import SPEED_TIE, Candidate, lengths
from engine.recommend.kernels import choose_kernels
from engine.recommend.plan import Choice, Requirements
from engine.speed.rates import Rates
from engine.speed.roofline import speed_at
from engine.text import format_bytes, format_duration

_ASKED = "asked for"
_SMALL_MODEL = 1_000_000_000
_RATES = {("lora", False): 2e-4, ("lora", True): 5e-4, ("full", False): 2e-5, ("full", True): 5e-5}
_RATES |= {("freeze", small): rate for (method, small), rate in _RATES.items() if method == "full"}


def choose_dtype(spec: ModelSpec, machine: Machine, target: Target, asked: str | None) -> tuple[str, str]:
    """Compute dtype and why; an impossible wish is replaced and the reason says so."""
    best, reason = best_dtype(machine, target.gpu)
    reason = reason.removeprefix(f"{best}: ")
    if best == "fp16" and spec.traits.overflows_fp16 and asked is None:
        return "fp32", "Gemma's activations overflow fp16 and the card has no bf16"
    if asked is None or asked == best:
        return best, reason if asked is None else f"{_ASKED}; {reason}"
    if asked == "bf16" and target.gpu is not None:
        return best, f"bf16 was asked for and is not possible: {reason}"
    if asked == "fp16" and target.gpu is None:
        return best, f"fp16 was asked for, which processors do not train in: {reason}"
    return asked, _ASKED


def choices(
    spec: ModelSpec, target: Target, chosen: Candidate, dtype_reason: str, asked: Requirements, rates: Rates | None
) -> tuple[Choice, ...]:
    """The values of a plan under their profile keys; `rates` of the device, where known, say what others would cost."""
    shape = chosen.shape
    total = shape.micro_batch * shape.gradient_accumulation_steps
    kernels, kernels_reason = choose_kernels(spec, target.device, target.gpu, asked.kernels)
    rate, rate_reason = _learning_rate(spec, shape)
    return (
        Choice("model.max_length", shape.max_length, _length_reason(spec, shape, asked)),
        Choice("model.dtype", shape.compute_dtype, dtype_reason),
        Choice("quantization.method", shape.quantization, _storage_reason(spec, chosen, asked)),
        Choice("tuning.method", shape.method, _ASKED if asked.method else "adapters learn well and take little memory"),
        Choice("train.per_device_train_batch_size", shape.micro_batch, _micro_reason(chosen, target, asked)),
        Choice("train.gradient_accumulation_steps", shape.gradient_accumulation_steps, _steps_reason(shape, asked)),
        Choice("train.total_batch_size", total, _total_reason(shape, asked)),
        Choice(
            "train.activation_checkpointing",
            recompute_in(shape).setting(),
            _checkpoint_reason(spec, chosen, asked, rates),
        ),
        Choice("train.kernels", kernels, kernels_reason),
        Choice("train.optim", shape.optimizer, _optimizer_reason(shape, asked)),
        Choice("train.learning_rate", rate, rate_reason),
        Choice("launch.device", target.device, _device_reason(target, chosen)),
        *_packing(spec, target),
    )


def _packing(spec: ModelSpec, target: Target) -> tuple[Choice, ...]:
    """One document a row where it is known that documents cannot share one; nothing elsewhere."""
    reason = alone_reason(spec, target.device)
    return (Choice("data.packing", False, reason),) if reason else ()


def _length_reason(spec: ModelSpec, shape: TrainingShape, asked: Requirements) -> str:
    if asked.max_length is not None:
        over = asked.max_length > spec.max_position_embeddings
        return f"{_ASKED}, but the model reads only {spec.max_position_embeddings} tokens" if over else _ASKED
    first = lengths(spec, asked)[0]
    if shape.max_length < first:
        return f"{first} does not fit"
    limit = "the model's whole context" if first == spec.max_position_embeddings else "covers most instruction data"
    return limit


def _storage_reason(spec: ModelSpec, chosen: Candidate, asked: Requirements) -> str:
    reason = _quantization_reason(chosen.shape, chosen.verdict, asked)
    return f"{reason}; the files' {NAMES[spec.stored]} is dequantized while loading" if spec.stored else reason


def _quantization_reason(shape: TrainingShape, verdict: str, asked: Requirements) -> str:
    if asked.quantization is not None:
        return _ASKED
    if learns_whole(shape):
        return "weights that learn cannot be quantized"
    if shape.quantization != "none":
        return f"{shape.compute_dtype} weights do not fit with headroom" if verdict != "NO" else "the smallest there is"
    if shape.device == "cpu":
        return "nf4 is slow on processors"
    return f"{shape.compute_dtype} weights fit: exact, and no time goes into dequantizing"


def _micro_reason(chosen: Candidate, target: Target, asked: Requirements) -> str:
    if asked.micro_batch is not None:
        return _ASKED
    if chosen.verdict == "NO":
        return "the smallest there is"
    free = format_bytes(target.available_bytes)
    if chosen.tokens_per_second is None:
        return f"the smallest that fits {free}: the device's speed is not known"
    # Bigger ones that gain less than `candidates.SPEED_TIE` are not worth their memory.
    return f"smallest within {1 - SPEED_TIE:.0%} of the fastest that fits {free}"


def _steps_reason(shape: TrainingShape, asked: Requirements) -> str:
    if asked.gradient_accumulation_steps is not None:
        return _ASKED
    return f"{shape.micro_batch} x {shape.gradient_accumulation_steps} sequences make a step"


def _total_reason(shape: TrainingShape, asked: Requirements) -> str:
    total = shape.micro_batch * shape.gradient_accumulation_steps
    if total == asked.total_batch:
        return "steady gradients at common learning rates" if total == Requirements().total_batch else _ASKED
    if asked.micro_batch is not None and asked.gradient_accumulation_steps is not None:
        return f"{shape.micro_batch} x {shape.gradient_accumulation_steps}, as asked for"
    return f"{asked.total_batch} is no multiple of what was asked for; {total} is the nearest"


def _checkpoint_reason(spec: ModelSpec, chosen: Candidate, asked: Requirements, rates: Rates | None) -> str:
    shape = chosen.shape
    if asked.recompute is not None:
        return _ASKED
    if chosen.verdict == "NO":
        return "takes the least memory"
    if shape.offload_inputs:
        return "inputs of all layers on the device do not fit, or take what a larger micro-batch needs"
    if shape.keep_attention:
        return "keeping all activations does not fit; attention's output, which is small, is not computed again"
    if shape.checkpoint_every == 0:
        return f"activations fit, and recomputing them {_recomputing_cost(spec, shape, rates)}"
    return "keeping all activations does not fit" if shape.checkpoint_every == 1 else "as few layers recomputed as fit"


def _recomputing_cost(spec: ModelSpec, shape: TrainingShape, rates: Rates | None) -> str:
    """What checkpointing every layer takes off the speed of `shape`, as the time model has it."""
    if rates is None:
        return "costs time"
    recomputed = Recompute(1).on(shape)
    lost = 1 - speed_at(spec, recomputed, rates) / speed_at(spec, shape, rates)
    return f"costs about {lost:.0%} of the speed"


def _optimizer_reason(shape: TrainingShape, asked: Requirements) -> str:
    if asked.optimizer is not None:
        return _ASKED
    if shape.optimizer == "adamw_bnb_8bit":
        return "fp32 states do not fit"
    return "fastest AdamW with fp32 states" if shape.device == "cuda" else "plain AdamW with fp32 states"


def _learning_rate(spec: ModelSpec, shape: TrainingShape) -> tuple[float, str]:
    small = spec.sizes.total_parameters < _SMALL_MODEL
    kind = {"lora": "adapters", "freeze": "the last layers"}.get(shape.method, "full fine-tuning")
    rate, why = _RATES[(shape.method, small)], f"usual for {kind}" + (" of models below 1 B" if small else "")
    # Each update of Lion is as long as its rate, whatever the gradient (arXiv 2302.06675, section 5).
    return (rate / 5, f"{why}, a fifth of it for Lion") if shape.optimizer.startswith("lion") else (rate, why)


def _device_reason(target: Target, chosen: Candidate) -> str:
    if target.gpu is not None:
        return f"{card_title(target.gpu)}: {target.reason}"
    speed = chosen.tokens_per_second
    if not speed:
        return target.reason
    million = format_duration(1e6 / speed)
    slow = "slow: " if chosen.verdict != "OK" else ""
    return f"{target.reason}; {slow}about {speed:,.0f} tokens/s, {million} for a million tokens"
