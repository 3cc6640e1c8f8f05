"""What else would work: runner-ups of a plan that fits, nearest changes for one that does not.

Called by `search.py` for a model that is looked at, not for whole rankings: each line is a search of
its own. Not here: the plan itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from engine.hardware.gpus import known_gpus
from engine.hardware.machine import Cpu, Machine
from engine.memory.recompute import Recompute
from engine.memory.shape import MIB, TrainingShape, learns_whole
from engine.models.spec import ModelSpec
from engine.recommend.budget import Target, gpu_targets
from engine.recommend.candidates import HEADROOM, Candidate, evaluate, find_best
from engine.recommend.plan import Requirements
from engine.speed.roofline import device_rates
from engine.text import format_bytes

_MOST = 5
_SHORTEST = 256
Change = tuple[str, dict[str, Any]]


def alternatives(
    spec: ModelSpec, machine: Machine, target: Target, chosen: Candidate, asked: Requirements
) -> tuple[str, ...]:
    """At most five lines, nearest first; for a plan that does not fit the last names a card that would do."""
    if chosen.verdict == "NO":
        return _nearest(spec, machine, target, chosen, asked)
    lines = [*_variants(spec, machine.cpu, target, chosen, asked), *_other_gpus(spec, machine, target, chosen)]
    return tuple(lines[:_MOST])


def _variants(spec: ModelSpec, cpu: Cpu, target: Target, chosen: Candidate, asked: Requirements) -> Iterator[str]:
    shape = chosen.shape
    rates = device_rates(shape, target.gpu, cpu, target.measured)
    every = 1 if shape.checkpoint_every == 0 else 0
    label = f"checkpointing {'on' if every else 'off'}"
    yield _line(label, evaluate(spec, Recompute(every).on(shape), target, rates), chosen)
    if shape.method == "lora" and target.device == "cuda":
        other = "nf4" if shape.quantization == "none" else "none"
        label = "nf4" if other == "nf4" else f"{shape.compute_dtype} weights"
        # The same batch and checkpointing, so that the two figures can be compared.
        yield _line(label, evaluate(spec, replace(shape, quantization=other), target, rates), chosen)
    longer = shape.max_length * 2
    if longer <= spec.max_position_embeddings:
        found = find_best(spec, target, cpu, shape.compute_dtype, replace(asked, max_length=longer))
        yield _line(f"max_length {longer}", found, chosen)


def _line(label: str, found: Candidate, chosen: Candidate) -> str:
    batch = f" at micro-batch {found.shape.micro_batch}" if found.shape.micro_batch != chosen.shape.micro_batch else ""
    text = f"{label}{batch}: {format_bytes(found.device_bytes)} {found.verdict}"
    if found.verdict != "NO" and found.tokens_per_second and chosen.tokens_per_second:
        text += f", {found.tokens_per_second / chosen.tokens_per_second:.2f} x the speed"
    return text


def _other_gpus(spec: ModelSpec, machine: Machine, target: Target, chosen: Candidate) -> Iterator[str]:
    for other in gpu_targets(machine):
        if other.index == target.index or other.available_bytes == target.available_bytes:
            continue
        found = evaluate(spec, chosen.shape, other, None)
        missing = format_bytes(found.device_bytes - other.available_bytes)
        yield f"on GPU {other.index}: " + (f"NO, {missing} short" if found.verdict == "NO" else found.verdict)


def _nearest(
    spec: ModelSpec, machine: Machine, target: Target, chosen: Candidate, asked: Requirements
) -> tuple[str, ...]:
    changes = list(_changes(spec, chosen, asked))
    dtype, lines = chosen.shape.compute_dtype, []
    for count in (1, 2, 3):
        for labels, changed in _combined(changes, count, asked):
            found = find_best(spec, target, machine.cpu, dtype, changed)
            if found.verdict != "NO":
                lines.append(f"{labels}: {format_bytes(found.device_bytes)} {found.verdict}")
        if lines:
            break
    if chosen.device_bytes > target.available_bytes:
        lines = [*lines[: _MOST - 1], _device_that_fits(chosen, target)]
    return tuple(lines[:_MOST])


def _changes(spec: ModelSpec, chosen: Candidate, asked: Requirements) -> Iterator[Change]:
    """Single changes to what was asked, the gentlest first."""
    shape = chosen.shape
    yield from _recomputing(shape, asked)
    if asked.micro_batch is not None and asked.micro_batch > 1:
        yield "micro-batch 1", {"micro_batch": 1, "gradient_accumulation_steps": None}
    if asked.lora_dropout > 0:
        yield "lora.dropout 0", {"lora_dropout": 0.0}
    if learns_whole(shape):
        yield "LoRA", {"method": "lora", "optimizer": None}
        if asked.optimizer is not None and "8bit" not in asked.optimizer:
            yield "8-bit optimizer", {"optimizer": "adamw_bnb_8bit"}
    elif shape.quantization in ("none", "int8"):
        yield "nf4", {"quantization": "nf4"}
    if asked.lora_r > 16 and shape.method == "lora":
        yield "lora.r 16", {"lora_r": 16}
    if shape.max_length > spec.max_position_embeddings:
        yield f"max_length {spec.max_position_embeddings}", {"max_length": spec.max_position_embeddings}
        return
    length = shape.max_length // 2
    while length >= _SHORTEST:
        yield f"max_length {length}", {"max_length": length}
        length //= 2


def _recomputing(shape: TrainingShape, asked: Requirements) -> Iterator[Change]:
    """More checkpointing than was asked for."""
    if asked.recompute is None:
        return
    if asked.recompute.every != 1 or asked.recompute.keep_attention:
        yield "checkpointing on", {"recompute": Recompute(1)}
    if not asked.recompute.offload_inputs and shape.device == "cuda":
        yield "checkpointing with inputs in main memory", {"recompute": Recompute(1, offload_inputs=True)}


def _combined(changes: list[Change], count: int, asked: Requirements) -> Iterator[tuple[str, Requirements]]:
    """Every `count` changes together; two lengths at once make no sense and are left out."""
    for group in combinations(changes, count):
        if sum("max_length" in values for _, values in group) > 1:
            continue
        merged = {key: value for _, values in group for key, value in values.items()}
        yield " and ".join(label for label, _ in group), replace(asked, **merged)


def _device_that_fits(chosen: Candidate, target: Target) -> str:
    needed = chosen.device_bytes / (1 - HEADROOM)
    size = format_bytes(needed)
    if target.device == "cpu":
        return f"a machine with {size} of free memory"
    cards = [card for card in known_gpus() if not card.unified_memory]
    enough = [card for card in cards if card.usable_bytes * 0.99 - 256 * MIB >= needed]
    smallest = min(enough, key=lambda card: card.usable_bytes, default=None)
    return f"a GPU with {size} free" + (f", such as {smallest.name}" if smallest else "; no single card has that")
