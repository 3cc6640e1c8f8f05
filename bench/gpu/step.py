"""One optimizer step of a catalog model with random weights, in this process: built, fed and timed.

`bench/memory.py` builds the model as a run's is built.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench import memory
from engine.data.batch import collate
from engine.memory.shape import TrainingShape
from engine.modeling import forward
from engine.models.catalog import catalog_index
from engine.oracle.grid import Case

_HIGHEST_ID = 30_000
_RATE = 1e-6
"""Small: every way to run the step starts from nearly the same weights."""


@dataclass(slots=True)
class Bench:
    """A model that trains, its optimizer and one batch of full rows."""

    case: Case
    model: Any
    optimizer: torch.optim.Optimizer
    batch: dict[str, Any]
    device: str

    @property
    def tokens(self) -> int:
        """Of one step."""
        return self.case.shape.micro_batch * self.case.shape.max_length


def build(name: str, shape: TrainingShape, device: str) -> Bench:
    """Random weights, adapters, fused AdamW, and random rows of one document each."""
    case = Case(name, catalog_index()[name], shape)
    model, _ = memory.build(case, device)
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=_RATE, fused=device == "cuda")
    chance, length = np.random.default_rng(0), shape.max_length

    def row() -> dict[str, Any]:
        ids = chance.integers(3, _HIGHEST_ID, length)
        bounds = {"position_ids": np.arange(length), "lengths": np.array([length]), "padding": 0}
        return {"input_ids": ids, "labels": ids, **bounds}

    batch = collate([row() for _ in range(shape.micro_batch)])
    placed = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
    return Bench(case, model, optimizer, placed, device)


def run_step(bench: Bench) -> torch.Tensor:
    """Forward, backward, update; the mean loss of a token."""
    loss = forward.loss_sum(bench.model, bench.batch) / bench.tokens
    loss.backward()  # type: ignore[no-untyped-call]
    bench.optimizer.step()
    bench.optimizer.zero_grad()
    return loss.detach()


def idle(device: str) -> float:
    """The clock, once the card has nothing left to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def forget(bench: Bench) -> None:
    """Drop gradients and what the allocator keeps, and count peaks anew."""
    bench.optimizer.zero_grad()
    gc.collect()
    if bench.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def timed(bench: Bench, steps: int) -> dict[str, Any]:
    """Seconds of each step, loss of the last one and peaks in bytes."""
    forget(bench)
    seconds, loss = [], torch.zeros(())
    for _ in range(steps):
        began = idle(bench.device)
        loss = run_step(bench)
        seconds.append(idle(bench.device) - began)
    on_card = bench.device == "cuda"
    return {
        "step_s": [round(time, 4) for time in seconds],
        "loss": float(loss),
        "allocated_bytes": torch.cuda.max_memory_allocated() if on_card else None,
        "reserved_bytes": torch.cuda.max_memory_reserved() if on_card else None,
    }
