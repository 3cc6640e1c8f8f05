"""A worker that the command itself has started: Ctrl-C passed on to it, and how it ended.

Used by `train.py` and `sweeps.py`. Not here: watching what others started (`watch.py`).
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from engine.cli.common import note
from engine.errors import EngineError
from engine.runs import launch
from engine.runs.view import RunFold


@contextlib.contextmanager
def interrupts_passed_on(process: subprocess.Popen[bytes], first: str, again: str) -> Iterator[None]:
    """Ctrl-C meant for the worker: the first asks it to save and stop, the next end it; each with its words."""
    asked = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        process.terminate()
        note(first if asked == 1 else again)

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def worker_error(fold: RunFold, directory: Path, process: subprocess.Popen[bytes]) -> EngineError | None:
    """What the worker told as its error; for one that ended without a last word, the end of its log."""
    if fold.error:
        return EngineError.from_dict(fold.error)
    return None if fold.finished else launch.died(directory, process)
