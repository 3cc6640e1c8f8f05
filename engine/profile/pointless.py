"""Runs that would learn next to nothing: so few steps, or so long a warm-up, that the figures alone say so.

Before the data are read only the profile's own figures are known; `sequences` = 0 then. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from engine.profile.schema import Profile
from engine.profile.tables.train import Train

FEW_STEPS = 5
"""Fewer move a model hardly, unless a person has asked for just so many."""
LONG_WARMUP = 0.5
"""Share of the steps from which a warm-up is told."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What about a setting makes a run pointless, and what to do."""

    key: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message} - {self.hint}"


@dataclass(frozen=True, slots=True)
class RunLength:
    """Steps of a run as far as they are known; 0 = not yet. `sequences`: of the packed training data."""

    steps: int = 0
    warmup_steps: int = 0
    sequences: int = 0


def known_length(train: Train) -> RunLength:
    """What the profile says by itself, before its data are read."""
    steps = train.max_steps or 0
    if not steps:
        return RunLength()
    warmup = math.ceil(steps * train.warmup_ratio) if train.warmup_steps is None else train.warmup_steps
    return RunLength(steps, warmup)


def doubts(settings: Profile, length: RunLength) -> Iterator[Doubt]:
    """Everything that makes a run of this length pointless."""
    train = settings.train
    yield from _steps(train, length)
    if train.lr_scheduler_type != "constant":
        yield from _warmup(train, length)


def _steps(train: Train, length: RunLength) -> Iterator[Doubt]:
    if length.steps == 1 and train.max_steps == 1:
        yield Doubt("train.max_steps", "the run is a single step: it learns next to nothing", "raise it")
        return
    few = 0 < length.steps < FEW_STEPS and train.max_steps is None
    batch = _batch(train)
    small = 0 < length.sequences < batch
    if not few and not small:
        return
    passes = f"{train.num_train_epochs:g} epoch{'s' * (train.num_train_epochs != 1)} of "
    data = f"{length.sequences} packed sequence{'s' * (length.sequences != 1)}, {batch} a step"
    if few:
        steps = "a single step" if length.steps == 1 else f"only {length.steps} steps"
        message = f"the run is {steps} ({passes}{data}): it learns next to nothing"
        ways = ["raise it"]
    else:
        message, ways = f"the data do not fill one step ({data}): each step sees all of them", []
    ways += _more_steps(train, length)
    yield Doubt("train.num_train_epochs" if few else "train.total_batch_size", message, ", or ".join(ways))


def _more_steps(train: Train, length: RunLength) -> list[str]:
    """What makes more steps of the same data."""
    smaller = max(1, min(_batch(train) // 2, length.sequences // 4))
    ways = [f"lower train.total_batch_size to {smaller}"] if smaller < _batch(train) else []
    return ways if length.sequences > 3 else [*ways, "lower model.max_length, which makes more sequences", "add data"]


def _batch(train: Train) -> int:
    parts = (train.per_device_train_batch_size, train.gradient_accumulation_steps)
    return math.prod(int(part) for part in parts if part != "auto")


def _warmup(train: Train, length: RunLength) -> Iterator[Doubt]:
    key = "train.warmup_ratio" if train.warmup_steps is None else "train.warmup_steps"
    steps, warmup = length.steps, length.warmup_steps
    if not steps:
        if key == "train.warmup_ratio" and train.warmup_ratio > LONG_WARMUP:
            yield Doubt(key, f"{100 * train.warmup_ratio:.3g} % of the steps warm up", "usual are 3 to 10 %: 0.03")
        return
    if steps == 1 or warmup <= max(1, steps * LONG_WARMUP):
        return
    peak = "its peak" if train.learning_rate == "auto" else f"its peak of {float(train.learning_rate):g}"
    if warmup > steps:
        message = f"all {steps} steps warm up: the learning rate ends at {100 * steps / warmup:.2g} % of {peak}"
    elif warmup == steps:
        message = f"all {steps} steps warm up: only the last one has the learning rate at {peak}"
    else:
        message = f"{warmup} of {steps} steps warm up, before the learning rate reaches {peak}"
    usual = math.ceil(0.03 * steps)
    remedy = f"use {usual}, or leave it out" if key == "train.warmup_steps" else "use 0.03, or leave it out"
    yield Doubt(key, message, remedy)
