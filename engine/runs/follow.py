"""Events of a run, sweep or job as they come: the one loop of every command that watches."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.runs.events import Event, EventReader
from engine.runs.health import HealthFold
from engine.runs.state import LIVE_STATES, run_state
from engine.runs.store import Run
from engine.runs.view import RunFold

POLL_S = 0.1
WATCH_POLL_S = 0.5


def follow_worker(events_path: Path, process: subprocess.Popen[bytes], *, offset: int = 0) -> Iterator[Event]:
    """Events until the worker that this process started has ended and all was read."""
    return _follow(EventReader(events_path, offset), lambda: process.poll() is not None, POLL_S)


def follow_run(run: Run, *, offset: int = 0, idle: Callable[[], None] = lambda: None) -> Iterator[Event]:
    """Events of a run or sweep, whoever started it, until it is over and all was read; `idle`: called without any."""
    reader = EventReader(run.events_path, offset)
    return _follow(reader, lambda: run_state(run) not in LIVE_STATES, WATCH_POLL_S, idle)


def _follow(
    reader: EventReader, is_over: Callable[[], bool], poll_s: float, idle: Callable[[], None] = lambda: None
) -> Iterator[Event]:
    while True:
        over = is_over()
        events = reader.read()
        yield from events
        if not events and reader.at_end:
            if over:
                return
            idle()
            time.sleep(poll_s)


def fold_run(run: Run, health: HealthFold | None = None) -> tuple[RunFold, int]:
    """All events of a run folded, into `health` too, and the offset behind the last."""
    fold, reader = RunFold(), EventReader(run.events_path)
    while not reader.at_end:
        for event in reader.read():
            fold.apply(event)
            if health is not None:
                health.apply(event)
    return fold, reader.offset
