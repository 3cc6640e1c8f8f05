"""Follow a worker that this command started: pass Ctrl-C on to it, and read how it ended.

Not here: watching a run that another command started (`watch.py`).
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from engine.cli.common import note
from engine.errors import EngineError
from engine.runs import launch
from engine.runs.view import RunFold


@dataclass(slots=True)
class Interrupts:
    """How often Ctrl-C was typed."""

    count: int = 0


@contextlib.contextmanager
def interrupts_passed_on(process: subprocess.Popen[bytes], first: str, again: str) -> Iterator[Interrupts]:
    """Pass Ctrl-C on to the worker: the first makes it save and stop, later ones end it; note `first` or `again`."""
    came = Interrupts()

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.count += 1
        process.terminate()
        note(first if came.count == 1 else again)

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def worker_error(fold: RunFold, directory: Path, process: subprocess.Popen[bytes]) -> EngineError | None:
    """The error that the worker reported; if it ended without one, an error with the end of its log."""
    if fold.error:
        return EngineError.from_dict(fold.error)
    return None if fold.finished else launch.died(directory, process)
