"""A job of a run (evaluation, export) as its folder tells it: whoever started it, however often the deck comes back.

Read in a thread, once a second while somebody looks. Starting jobs is `engine.api.begin_job`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from engine.api import runs
from engine.api.runs import RunFold
from tui.reading.snapshot import Progress, make_error, make_progress
from tui.text import safe, short_path

OVER = ("completed", "failed", "stopped", "lost")
_GRACE_S = 5.0
"""A job without lock and events that is younger than this is starting, not lost."""


@dataclass(frozen=True, slots=True)
class JobView:
    """Where a job is. `state`: empty (never asked for), `running`, or one of `OVER`."""

    state: str = ""
    phase: str = ""
    detail: str = ""
    progress: Progress | None = None
    began: float = 0.0
    """Unix time at which it was asked for."""
    warnings: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    finished: float = 0.0
    """Unix time of its last event."""


class JobReader:
    """Follows the events of one folder; used by one thread at a time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._forget()

    def _forget(self, asked: float = 0.0) -> None:
        self._fold, self._offset, self._asked = RunFold(), 0, asked
        self._warnings: list[str] = []

    def read(self, *, starting: bool = False) -> JobView:
        """Where it is now; `starting`: this deck's worker lives, though it may not hold the lock yet."""
        alive = runs.holder_pid(self.place / "lock") is not None or starting
        self._advance()
        fold = self._fold
        state = "running" if alive else self._over()
        return JobView(
            state,
            safe(fold.phase, 30),
            safe(fold.phase_detail, 200),
            make_progress(fold),
            self._asked,
            tuple(self._warnings),
            self._error(state),
            fold.last_time,
        )

    def _advance(self) -> None:
        asked = _modified(self.place / "job.json")
        if asked != self._asked:  # another job took the place of the last one
            self._forget(asked)
        events, self._offset = runs.read_events(self.place / "events.jsonl", self._offset)
        for event in events:
            self._fold.apply(event)
            if event["type"] == "warning":
                self._warnings.append(safe(event.get("message", ""), 400))

    def _over(self) -> str:
        if self._fold.finished:
            outcome = str(self._fold.finished.get("outcome"))
            return outcome if outcome in OVER else "failed"
        if not self._asked:
            return ""
        return "running" if not self._fold.last_time and time.time() - self._asked < _GRACE_S else "lost"

    def _error(self, state: str) -> tuple[str, ...]:
        if state == "lost":
            return ("the worker ended without a word", f"its log: {short_path(self.place / 'worker.log')}")
        return make_error(self._fold) if state == "failed" else ()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
