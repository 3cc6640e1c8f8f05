"""Highest memory of each phase of a run's first steps: load, check, forward, backward, optimizer.

The trainer calls `enter` where a phase begins and `end_step` after each step; after the first steps (optimizer
states are there from the second on) nothing is read any more. Reading allocator counters neither waits for the
device nor touches a random state. Not here: what becomes of the figures (`calibrate.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MEASURED_STEPS = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """Peak bytes. `reserved` is what the allocator held; on a processor all that was resident."""

    reserved: int
    allocated: int | None = None

    def higher(self, other: Reading | None) -> Reading:
        """The higher of each figure."""
        if other is None:
            return self
        known = [value for value in (self.allocated, other.allocated) if value is not None]
        return Reading(max(self.reserved, other.reserved), max(known, default=None))


class PhasePeaks:
    """Peaks by phase. `cuda` is `torch.cuda`, or None on a processor, where the peak is that of the process so far."""

    def __init__(self, cuda: Any = None) -> None:
        self.phases: dict[str, Reading] = {}
        self.steps = 0
        self.rows = 0
        """Most sequences in a micro-batch."""
        self.micro_batches = 0
        """Most micro-batches in a step."""
        self.on_measured: Callable[[], None] = lambda: None
        self._cuda = cuda
        self._phase = "start"
        self._in_step = 0

    @property
    def measured(self) -> bool:
        """Whether all steps that are looked at are done."""
        return self.steps >= MEASURED_STEPS

    def enter(self, phase: str, rows: int = 0) -> None:
        """What came before ends here; `rows` is the micro-batch's size where one begins."""
        if self.measured:
            return
        self._close()
        self._phase = phase
        self.rows = max(self.rows, rows)
        self._in_step += rows > 0

    def end_step(self) -> None:
        """An optimizer step is done; after the last measured one `on_measured` is called, once."""
        if self.measured:
            return
        self.enter("between")
        self.micro_batches, self._in_step = max(self.micro_batches, self._in_step), 0
        self.steps += 1
        if self.measured:
            self.on_measured()

    def whole(self) -> Reading:
        """The highest of the whole run up to now."""
        now = self._read()
        for reading in list(self.phases.values()):  # telemetry asks from a thread of its own
            now = now.higher(reading)
        return now

    def _close(self) -> None:
        self.phases[self._phase] = self._read().higher(self.phases.get(self._phase))
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()

    def _read(self) -> Reading:
        if self._cuda is None:
            return Reading(resident_peak_bytes())
        return Reading(self._cuda.max_memory_reserved(), self._cuda.max_memory_allocated())


def phase_peaks(device: str) -> PhasePeaks:
    """Peaks on `cuda` or `cpu`."""
    return PhasePeaks(torch.cuda if device == "cuda" and torch.cuda.is_available() else None)


def resident_peak_bytes() -> int:
    """Most memory that was ever resident for this process."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    # Not on Linux: there it starts at what the starter had resident when it forked.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
