"""How many steps a run has, and when it evaluates and saves. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.profile.pointless import Doubt, RunLength, doubts
from engine.profile.schema import Profile

EVALUATIONS_PER_RUN = 10


@dataclass(frozen=True, slots=True)
class Schedule:
    """Optimizer steps of a run and its rhythm; 0 = never."""

    steps_total: int
    steps_per_epoch: int
    eval_steps: int
    save_steps: int
    warmup_steps: int


def plan_schedule(settings: Profile, sequences: int, *, has_validation: bool) -> Schedule:
    """Steps for `sequences` packed sequences; counts as transformers does: partial batches are steps.

    A run evaluates where it has held-out rows or prompts to answer.
    """
    train = settings.train
    per_epoch = per_epoch_steps(
        sequences, int(train.per_device_train_batch_size), int(train.gradient_accumulation_steps)
    )
    total = train.max_steps or total_steps(per_epoch, train.num_train_epochs)
    rhythm = max(1, math.ceil(total / EVALUATIONS_PER_RUN))
    evaluate = rhythm if train.eval_steps == "auto" else int(train.eval_steps)
    save = evaluate if train.save_steps == "auto" else int(train.save_steps)
    warmup = math.ceil(total * train.warmup_ratio) if train.warmup_steps is None else train.warmup_steps
    return Schedule(total, per_epoch, evaluate if has_validation or settings.evaluate.prompts else 0, save, warmup)


def doubts_of(settings: Profile, sequences: int) -> list[Doubt]:
    """What makes a run over `sequences` packed sequences pointless; nothing while its batch is open."""
    if "auto" in (settings.train.per_device_train_batch_size, settings.train.gradient_accumulation_steps):
        return []
    plan = plan_schedule(settings, sequences, has_validation=False)
    return list(doubts(settings, RunLength(plan.steps_total, plan.warmup_steps, sequences)))


def per_epoch_steps(sequences: int, micro_batch: int, accumulation: int) -> int:
    """Optimizer steps in which every packed sequence is seen once."""
    return max(1, math.ceil(math.ceil(sequences / micro_batch) / accumulation))


def total_steps(per_epoch: int, epochs: float) -> int:
    """Optimizer steps of a run that no number of steps ends."""
    return max(1, math.ceil(per_epoch * epochs))
