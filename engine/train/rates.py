"""The learning rate of each step: the schedules of transformers, with a warm-up whose first step learns.

There, warm-up begins at a rate of 0: the first step of every run learns nothing, and a run of one step nothing at all.
Here step k of W warm-up steps, counted from 1, has k / W of the peak. What follows the warm-up is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from engine.profile.schedule import Schedule
from engine.profile.tables.train import Train

_POLYNOMIAL_END = 1e-7
"""Where a polynomial decay ends, in transformers; a peak below it would be refused there."""
Factor = Callable[[int], float]


def rate_schedule(train: Train, schedule: Schedule, optimizer: Any) -> LambdaLR:
    """The scheduler of a run that begins; a resumed one loads its state into it."""
    kind = train.lr_scheduler_type
    found: LambdaLR = get_scheduler(
        kind,
        optimizer,
        num_warmup_steps=schedule.warmup_steps,
        # A decay over no step at all divides by zero; nothing gets that far.
        num_training_steps=max(schedule.steps_total, schedule.warmup_steps + 1),
        scheduler_specific_kwargs=_options(kind, float(train.learning_rate)),
    )
    if kind == "constant":
        return found
    found.lr_lambdas = [warmed_up(factor, schedule.warmup_steps) for factor in found.lr_lambdas]
    rates = [base * factor(0) for base, factor in zip(found.base_lrs, found.lr_lambdas, strict=True)]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    found._last_lr = rates
    return found


def warmed_up(factor: Factor, warmup_steps: int) -> Factor:
    """`factor` by steps done, with a warm-up that begins above 0."""

    def rate(done: int) -> float:
        return (done + 1) / warmup_steps if done < warmup_steps else factor(done)

    return rate


def _options(kind: str, peak: float) -> dict[str, Any] | None:
    return {"lr_end": min(_POLYNOMIAL_END, peak / 10)} if kind == "polynomial" else None
