"""Trials of faster paths on the run's own model and rows: is a path right, and which combination is the fastest?

Used by `kernel_choice.py`. Not here: the clock and what memory must be left (`timing.py`), and the comparing of losses
and gradients (`acceleration.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from engine.data.batch import PackedDataset
from engine.modeling import forward
from engine.runs.job import Warn
from engine.runs.kernel_records import KernelRecord
from engine.train.acceleration import Acceleration, take
from engine.train.allowed import Allowed
from engine.train.compiled import COMPILED
from engine.train.small import small_row
from engine.train.timing import REPEATS, WARM_UP, micro_batch_s, trial
from engine.train.trainer import EngineTrainer

MOST_SHARE = 0.02
"""Of a run's time that measuring may take."""
COMPILE_S = 30.0
"""Compiling the layers with its check; the first step alone was measured to take 14 s for 32 layers."""
_WORTH = 1.01
"""A way that needs more memory, or a compiler, must be faster by this much."""

Ways = tuple[Acceleration, ...]


def word(ways: Sequence[Acceleration]) -> str:
    """A combination as records name it: `liger+fused`; `plain` for none."""
    return "+".join(each.key for each in ways) or "plain"


def switch(trainer: EngineTrainer, paths: Sequence[Acceleration], ways: Ways) -> None:
    """`ways` on, the others of `paths` off."""
    for path in paths:
        path.undo(trainer.model)
    for path in ways:
        path.apply(trainer.model)


def is_right(trainer: EngineTrainer, path: Acceleration, warn: Warn) -> bool:
    """Switch a path on where it computes what the model does now; else it stays off, with a warning."""
    trainer.job.phase("check", f"{path.title} against plain")
    # A compiler makes code for the shapes it meets: those of training, so that it is made once.
    batch = _micro_batch(trainer) if path is COMPILED else _small_batch(trainer)
    with trial(trainer), trainer.autocast():
        return take(path, trainer.model, batch, trainer.objective, warn)


def candidates(paths: Sequence[Allowed]) -> list[Ways]:
    """Combinations of what is free beside what is fixed, leanest in memory first; `paths` are in that order.

    Compiled layers leave no choice: each combination would be compiled anew, and torch gives up after a few.
    """
    compiled = any(each.path is COMPILED for each in paths)
    choices = [(True,) if each.fixed or compiled else (True, False) for each in paths]
    return [
        tuple(each.path for each, on in zip(paths, chosen, strict=True) if on) for chosen in itertools.product(*choices)
    ]


def micro_batches_of(trainer: EngineTrainer) -> int:
    """Micro-batches of the whole run."""
    return trainer.schedule.steps_total * trainer.args.gradient_accumulation_steps


def pays(trainer: EngineTrainer, count: int) -> bool:
    """Whether trying `count` combinations takes a small part of the run's micro-batches."""
    return count * (WARM_UP + REPEATS) <= MOST_SHARE * micro_batches_of(trainer)


def fastest(trainer: EngineTrainer, found: list[Ways]) -> tuple[Ways, KernelRecord]:
    """The fastest of the combinations, and what each took; which paths are on afterwards is left open.

    The first one where none fits: the run then finds out by itself how to cut its batches.
    """
    trainer.job.phase("check", f"{len(found)} ways of one micro-batch, measured")
    paths = list({path.key: path for ways in found for path in ways}.values())
    seconds: dict[str, float] = {}
    unfit: list[str] = []
    with trial(trainer):
        batch = _micro_batch(trainer)
        for ways in found:
            switch(trainer, paths, ways)
            # What follows one that does not fit needs as much memory or more.
            took = None if unfit else micro_batch_s(trainer, batch)
            if took is None:
                unfit.append(word(ways))
            else:
                seconds[word(ways)] = took
    best = _best(seconds) if seconds else word(found[0])
    chosen = next(ways for ways in found if word(ways) == best)
    return chosen, KernelRecord(best, seconds, tuple(unfit))


def _best(seconds: dict[str, float]) -> str:
    """The fastest; the earlier of two that are about as fast."""
    best = next(iter(seconds))
    for name, value in seconds.items():
        best = name if value * _WORTH < seconds[best] else best
    return best


def with_compiled(trainer: EngineTrainer, ways: Ways, record: KernelRecord) -> tuple[Ways, KernelRecord]:
    """`ways`, which are on, with compiled layers beside them where that pays and is right and faster."""
    before = record.seconds.get(record.chosen, 0.0)
    if before * micro_batches_of(trainer) * MOST_SHARE < COMPILE_S:
        return ways, record
    with trial(trainer):
        # Nobody asked for it, so that what stands against it is no warning.
        right = is_right(trainer, COMPILED, lambda code, message: trainer.job.phase("check", message))
        took = micro_batch_s(trainer, _micro_batch(trainer)) if right else None
    name = word((*ways, COMPILED))
    if took is not None and took * _WORTH < before:
        return (*ways, COMPILED), replace(record, chosen=name, seconds=record.seconds | {name: took})
    COMPILED.undo(trainer.model)
    if took is None:
        return ways, replace(record, unfit=(*record.unfit, name))
    return ways, replace(record, seconds=record.seconds | {name: took})


def _small_batch(trainer: EngineTrainer) -> forward.Batch:
    return trainer._prepare_inputs(trainer.collator([small_row(_data(trainer)[0])]))


def _micro_batch(trainer: EngineTrainer) -> forward.Batch:
    data = _data(trainer)
    rows = min(trainer.args.per_device_train_batch_size, len(data))
    return trainer._prepare_inputs(trainer.collator([data[row] for row in range(rows)]))


def _data(trainer: EngineTrainer) -> PackedDataset:
    data: PackedDataset = trainer.train_dataset
    return data
