"""The state of a run, a sweep or a job: decided here, from the lock, `job.json`, `control/` and the events.

Whoever has folded the events already hands their `Marks` over; anybody else has the end of the file read. Not here:
following events (`follow.py`), asking a worker to stop (`control.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from engine.jsonvalues import Unreadable, number_in, text_in
from engine.runs.control import pending
from engine.runs.events import Event, EventReader
from engine.runs.lock import holder_pid
from engine.runs.record import JOB_FILE, load_job
from engine.runs.store import Run
from engine.runs.view import RunFold

LIVE_STATES = ("starting", "running", "stopping")
"""States of a run that has a worker, or will have one in a moment."""
ENDED = ("completed", "stopped", "failed")
OVER = (*ENDED, "lost")
REMOVED = "removed"
START_GRACE_S = 20.0
"""A worker that was asked for, holds no lock and has written nothing for this long is lost, not starting."""
_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Marks:
    """The last beginning and, if it came after, the last end that the events tell of."""

    begun: bool = False
    outcome: str = ""
    ended_at: float = 0.0
    """Unix time; 0 = not known."""


def run_state(run: Run, marks: Marks | None = None) -> str:
    """One of LIVE_STATES or OVER, or `removed` where the directory is gone.

    A run that was resumed a moment ago is `starting`, whatever its earlier end was.
    """
    if not run.path.is_dir():
        return REMOVED
    known = read_marks(run.events_path) if marks is None else marks
    resumed = bool(known.outcome) and _is_asked_again(run, known)
    is_new = resumed or not known.begun
    if holder_pid(run.lock_path) is not None:
        if is_new:
            return "starting"
        return "stopping" if pending(run.path, "stop") else "running"
    if known.outcome and not resumed:
        return known.outcome
    asked = asked_at(run.path)
    if asked is None:
        return REMOVED  # just now
    return "starting" if is_new and time.time() - asked < START_GRACE_S else "lost"


def read_marks(events_path: Path) -> Marks:
    """Marks from the end of an event file: a longer tail without any belongs to a run that has begun."""
    reader = EventReader.at_tail(events_path, _TAIL_BYTES)
    marks = Marks(begun=reader.offset > 0)
    for event in reader.read():
        marks = next_marks(marks, event)
    return marks


def next_marks(marks: Marks, event: Event) -> Marks:
    """Marks after one more event."""
    if event["type"] == "started":
        return Marks(begun=True)
    return _ended(event, marks.begun) if event["type"] == "finished" else marks


def fold_marks(fold: RunFold, *, begun: bool = False) -> Marks:
    """Marks of events that were folded; `begun`: it is known to have begun before the first of them."""
    has_begun = begun or bool(fold.started) or fold.step > 0
    return _ended(fold.finished, has_begun) if fold.finished else Marks(has_begun)


def _ended(event: Event, begun: bool) -> Marks:
    outcome = text_in(event, "outcome")
    return Marks(begun, outcome if outcome in ENDED else "failed", number_in(event, "t") or 0.0)


def _is_asked_again(run: Run, marks: Marks) -> bool:
    """Whether a worker was asked for after the last one's end: it takes the lock a moment later."""
    job = load_job(run.path)
    if isinstance(job, Unreadable) or job.asked_at is None:
        return False
    return bool(marks.ended_at) and job.asked_at > marks.ended_at


def asked_at(directory: Path) -> float | None:
    """When a worker was asked for last: the time of the file that asks, else of the directory; None without both."""
    for path in (directory / JOB_FILE, directory):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return None
