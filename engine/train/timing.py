"""How long a micro-batch's forward and backward pass takes, and whether it leaves room for the optimizer.

Used by `kernel_trials.py`. Random states are as before afterwards, gradients are gone, and the peaks that trials
reached are forgotten, so that a run's own peaks are its own.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from engine.errors import is_out_of_memory
from engine.memory.shape import STEP_PORTION_BYTES
from engine.modeling import forward
from engine.train.micro_batches import release
from engine.train.trainer import EngineTrainer

WARM_UP, REPEATS = 1, 3
_STATE_BYTES = 12
"""fp32 master and two moments of a value that learns: there from the first step's end on."""


@contextmanager
def trial(trainer: EngineTrainer) -> Iterator[None]:
    """What is done inside leaves no trace in random states, gradients, scores or peaks."""
    cuda = trainer.args.device.type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        try:
            yield
        finally:
            trainer.model.zero_grad()
            trainer.model.eval()
            for training in (True, False):
                trainer.objective.figures(training=training)
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def micro_batch_s(trainer: EngineTrainer, batch: forward.Batch) -> float | None:
    """Median seconds, warmed up; None where memory does not suffice for the passes with the optimizer beside them."""
    cuda = trainer.args.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = _median_s(lambda: _passes(trainer, batch), cuda)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        trainer.model.zero_grad()
        release(error)
        return None
    return seconds if not cuda or _leaves_room(trainer) else None


def _passes(trainer: EngineTrainer, batch: forward.Batch) -> None:
    trainer.model.train()
    with trainer.autocast():
        loss = trainer.objective(trainer.model, batch)
    (loss / trainer.objective.items(batch)).backward()
    trainer.model.zero_grad()


def _leaves_room(trainer: EngineTrainer) -> bool:
    learned = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
    states = _STATE_BYTES * learned + min(4 * learned, STEP_PORTION_BYTES)
    free, _ = torch.cuda.mem_get_info()
    return torch.cuda.max_memory_reserved() + states <= free + torch.cuda.memory_reserved()


def _median_s(work: Callable[[], None], cuda: bool) -> float:
    for _ in range(WARM_UP):
        work()
    return statistics.median(_on_card(work) if cuda else _on_processor(work))


def _on_card(work: Callable[[], None]) -> list[float]:
    marks: list[Any] = [torch.cuda.Event(enable_timing=True)]
    marks[0].record()
    for _ in range(REPEATS):
        work()
        marks.append(torch.cuda.Event(enable_timing=True))
        marks[-1].record()
    marks[-1].synchronize()
    return [one.elapsed_time(other) / 1000 for one, other in itertools.pairwise(marks)]


def _on_processor(work: Callable[[], None]) -> list[float]:
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found
