"""Log lines whose figures come from the device in one transfer, and on a GPU one step later.

Reading a figure makes the host wait until the device has done all that was given to it, after which the device waits
for the host's next kernels. So the figures of a line are copied into pinned memory without waiting, and read when the
next step is under way: by then they are there. Used by the trainer, which flushes before anything that must come after
the line. Not here: what is in a line (`step_log.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Write = Callable[[dict[str, Any], list[float]], None]


@dataclass(frozen=True, slots=True)
class _Line:
    known: dict[str, Any]
    figures: torch.Tensor
    arrived: Any
    """A CUDA event; None where the figures are there already."""


class Lines:
    """Hands lines to `write(known, figures)`, in order; with `late` each one when the next comes or at `flush`."""

    def __init__(self, write: Write, *, late: bool) -> None:
        self._write, self._late = write, late
        self._waiting: _Line | None = None

    def put(self, known: dict[str, Any], figures: torch.Tensor) -> None:
        """A line with what the host knows of it, and with figures [n] of the device."""
        line = _Line(known, *_sent(figures))
        self.flush()
        self._waiting = line
        if not self._late:
            self.flush()

    def flush(self) -> None:
        """Write what is still to come; waits for its figures."""
        line, self._waiting = self._waiting, None
        if line is None:
            return
        if line.arrived is not None:
            line.arrived.synchronize()
        self._write(line.known, line.figures.tolist())


def _sent(figures: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """A copy in host memory, and the event of its arrival."""
    if not figures.is_cuda:
        return figures, None
    arrived = torch.cuda.Event()
    host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True).copy_(figures, non_blocking=True)
    arrived.record()
    return host, arrived
