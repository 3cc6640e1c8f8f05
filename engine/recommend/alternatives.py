"""What else would work: runner-ups of a plan that fits, nearest changes for one that does not.

Not here: the plan itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.hardware.cards import card_name
from engine.hardware.gpus import known_gpus
from engine.hardware.machine import Cpu, Machine
from engine.memory.recompute import Recompute, recompute_in
from engine.memory.shape import MIB, TrainingShape, learns_whole
from engine.models.spec import ModelSpec
from engine.recommend.budget import Target, gpu_targets
from engine.recommend.candidates import HEADROOM, Candidate, evaluate, find_best
from engine.recommend.changes import Change, single, together
from engine.recommend.plan import Requirements
from engine.text import format_bytes

_MOST = 5
_SHORTEST = 256


def alternatives(
    spec: ModelSpec, machine: Machine, target: Target, chosen: Candidate, asked: Requirements
) -> tuple[str, ...]:
    """At most five lines, nearest first; for a plan that does not fit the last names a card that would do."""
    if chosen.verdict == "NO":
        return _nearest(spec, machine, target, chosen, asked)
    lines = [*_variants(spec, machine.cpu, target, chosen, asked), *_other_gpus(spec, machine, target, chosen)]
    return tuple(lines[:_MOST])


def _variants(spec: ModelSpec, cpu: Cpu, target: Target, chosen: Candidate, asked: Requirements) -> Iterator[str]:
    """One change each, with the batch and checkpointing that are best then."""
    for label, changed in _single_changes(spec, target, chosen, asked):
        found = find_best(spec, target, cpu, chosen.shape.compute_dtype, changed)
        yield f"{label}{_differences(found.shape, chosen.shape, (label,))}: {_outcome(found, chosen)}"


def _single_changes(
    spec: ModelSpec, target: Target, chosen: Candidate, asked: Requirements
) -> Iterator[tuple[str, Requirements]]:
    shape = chosen.shape
    pinned = replace(asked, max_length=shape.max_length)
    stored = replace(pinned, quantization=shape.quantization)
    every = 1 if shape.checkpoint_every == 0 else 0
    yield _recompute_words(Recompute(every)), replace(stored, recompute=Recompute(every))
    if shape.method == "lora" and target.device == "cuda":
        other = "nf4" if shape.quantization == "none" else "none"
        yield _storage_words(other, shape), replace(pinned, quantization=other)
    longer = shape.max_length * 2
    if longer <= spec.max_position_embeddings:
        yield f"max_length {longer}", replace(asked, max_length=longer)


def _outcome(found: Candidate, chosen: Candidate) -> str:
    text = f"{format_bytes(found.device_bytes)} {found.verdict}"
    if found.verdict != "NO" and chosen.verdict != "NO" and found.tokens_per_second and chosen.tokens_per_second:
        text += f", {found.tokens_per_second / chosen.tokens_per_second:.2f} x the speed"
    return text


def _differences(found: TrainingShape, chosen: TrainingShape, parts: tuple[str, ...]) -> str:
    """The batch, and what else is not as in the plan; what `parts` of the change say is not said again."""
    label = " and ".join(parts)
    other = f", not {chosen.micro_batch}" if found.micro_batch != chosen.micro_batch else ""
    words = [] if "micro-batch" in label else [f"micro-batch {found.micro_batch}{other}"]
    if recompute_in(found) != recompute_in(chosen) and "checkpointing" not in label:
        words.append(_recompute_words(recompute_in(found)))
    if found.quantization != chosen.quantization:
        words.append(_storage_words(found.quantization, found))
    if found.optimizer != chosen.optimizer and found.method == chosen.method and "optimizer" not in label:
        words.append(found.optimizer)
    if found.max_length != chosen.max_length:
        words.append(f"max_length {found.max_length}")
    return "".join(f", {word}" for word in words if word not in parts)


def _recompute_words(way: Recompute) -> str:
    if way.offload_inputs:
        return "checkpointing with inputs in main memory"
    if way.keep_attention:
        return "checkpointing with attention kept"
    return f"checkpointing {('off', 'on')[way.every]}" if way.every < 2 else f"checkpointing one layer in {way.every}"


def _storage_words(quantization: str, shape: TrainingShape) -> str:
    return f"{shape.compute_dtype} weights" if quantization == "none" else quantization


def _other_gpus(spec: ModelSpec, machine: Machine, target: Target, chosen: Candidate) -> Iterator[str]:
    for other in gpu_targets(machine):
        if other.gpu is None or other.index == target.index or other.available_bytes == target.available_bytes:
            continue
        found = evaluate(spec, chosen.shape, other, None)
        missing = format_bytes(found.device_bytes - other.available_bytes)
        yield f"on {card_name(other.gpu)}: " + (f"NO, {missing} short" if found.verdict == "NO" else found.verdict)


def _nearest(
    spec: ModelSpec, machine: Machine, target: Target, chosen: Candidate, asked: Requirements
) -> tuple[str, ...]:
    changes = list(_changes(spec, chosen, asked))
    dtype = chosen.shape.compute_dtype
    lines: dict[tuple[tuple[str, ...], str], str] = {}
    for count in (1, 2, 3):
        # Two lengths at once make no sense.
        for change in together(changes, count, once=("max_length",)):
            found = find_best(spec, target, machine.cpu, dtype, replace(asked, **change.values))
            if found.verdict != "NO":
                # A further step of the same change that takes as much says nothing new; the gentler one stays.
                outcome = _outcome(found, chosen)
                differences = _differences(found.shape, chosen.shape, change.parts)
                lines.setdefault((_kind(change), outcome), f"{change.label}{differences}: {outcome}")
        if lines:
            break
    listed = list(lines.values())
    if chosen.device_bytes > target.available_bytes:
        listed = [*listed[: _MOST - 1], _device_that_fits(chosen, target)]
    return tuple(listed[:_MOST])


def _kind(change: Change) -> tuple[str, ...]:
    """What is changed, whatever the length."""
    return tuple("max_length" if part.startswith("max_length") else part for part in change.parts)


def _changes(spec: ModelSpec, chosen: Candidate, asked: Requirements) -> Iterator[Change]:
    """Single changes to what was asked, the gentlest first."""
    shape = chosen.shape
    yield from _recomputing(shape, asked)
    if asked.micro_batch is not None and asked.micro_batch > 1:
        yield single("micro-batch 1", {"micro_batch": 1, "gradient_accumulation_steps": None})
    if asked.lora_dropout > 0:
        yield single("lora.dropout 0", {"lora_dropout": 0.0})
    if learns_whole(shape):
        yield single("LoRA", {"method": "lora", "optimizer": None})
        if asked.optimizer is not None and "8bit" not in asked.optimizer:
            yield single("8-bit optimizer", {"optimizer": "adamw_bnb_8bit"})
    elif shape.quantization in ("none", "int8"):
        yield single("nf4", {"quantization": "nf4"})
    if asked.lora_r > 16 and shape.method == "lora":
        yield single("lora.r 16", {"lora_r": 16})
    if shape.max_length > spec.max_position_embeddings:
        yield single(f"max_length {spec.max_position_embeddings}", {"max_length": spec.max_position_embeddings})
        return
    length = shape.max_length // 2
    while length >= _SHORTEST:
        yield single(f"max_length {length}", {"max_length": length})
        length //= 2


def _recomputing(shape: TrainingShape, asked: Requirements) -> Iterator[Change]:
    """More checkpointing than was asked for."""
    if asked.recompute is None:
        return
    if asked.recompute.every != 1 or asked.recompute.keep_attention:
        yield single(_recompute_words(Recompute(1)), {"recompute": Recompute(1)})
    if not asked.recompute.offload_inputs and shape.device == "cuda":
        offload = Recompute(1, offload_inputs=True)
        yield single(_recompute_words(offload), {"recompute": offload})


def _device_that_fits(chosen: Candidate, target: Target) -> str:
    needed = chosen.device_bytes / (1 - HEADROOM)
    size = format_bytes(needed)
    if target.device == "cpu":
        return f"a machine with {size} of free memory"
    cards = [card for card in known_gpus() if not card.unified_memory]
    enough = [card for card in cards if card.usable_bytes * 0.99 - 256 * MIB >= needed]
    smallest = min(enough, key=lambda card: card.usable_bytes, default=None)
    return f"a GPU with {size} free" + (f", such as {smallest.name}" if smallest else "; no single card has that")
