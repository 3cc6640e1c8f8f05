"""The handle a worker gives to the work it runs: where, what, and how to tell of it.

Imported by `worker.py` and by every job (`train`, `evaluate`, `export`, data checks). No torch here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.runs.events import EventWriter


@dataclass(slots=True)
class StopFlag:
    """Whether a signal or a control file asked the work to end at the next step."""

    reason: str = ""

    def ask(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        self.reason = self.reason or reason

    def __bool__(self) -> bool:
        return bool(self.reason)


@dataclass(slots=True)
class Job:
    """One piece of work in `directory`, described by `params` (job.json), told in `events`."""

    directory: Path
    params: Mapping[str, Any]
    events: EventWriter
    stop: StopFlag = field(default_factory=StopFlag)
    stoppable: threading.Event = field(default_factory=threading.Event)
    """Set while the work looks at `stop` between steps; otherwise a signal ends it at once."""

    def phase(self, name: str, detail: str = "") -> None:
        """Say what begins now."""
        self.events.write("phase", name=name, detail=detail)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        """Say how far a phase is."""
        self.events.write("progress", phase=phase, done=done, total=total, unit=unit)

    def warn(self, code: str, message: str) -> None:
        """Say that something was not done as asked, or may hurt; never fall back without it."""
        self.events.write("warning", code=code, message=message)


Warn = Callable[[str, str], None]
"""`warn(code, message)`: what loaders and builders call for a fall-back."""
