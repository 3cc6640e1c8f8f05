"""A job of a run (evaluation, export) as its folder tells it: whoever started it, however often the deck comes back.

Read in a thread, once a second while somebody looks. Starting jobs is `engine.api.begin_job`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.api import runs
from engine.api.runs import LIVE_STATES, EventReader, Run, RunFold, fold_marks, run_state
from tui.reading.snapshot import Progress, make_error, make_progress
from tui.text import safe, short_path

OVER = ("completed", "failed", "stopped", "lost")


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
        self._run = Run(place.name, place)
        self._forget()

    def _forget(self, asked: float = 0.0) -> None:
        self._fold, self._asked = RunFold(), asked
        self._events = EventReader(self._run.events_path)
        self._warnings: list[str] = []

    def read(self, *, starting: bool = False) -> JobView:
        """Where it is now; `starting`: this deck's worker lives, though it may not hold the lock yet."""
        self._advance()
        fold = self._fold
        state = self._state(starting)
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
        for event in self._events.read():
            self._fold.apply(event)
            if event["type"] == "warning":
                self._warnings.append(safe(event.get("message", ""), 400))

    def _state(self, starting: bool) -> str:
        """As a run's; whatever lives is `running`, and what was never asked for has no state."""
        fold = self._fold
        found = run_state(self._run, fold_marks(fold, begun=bool(fold.last_time)))
        if starting or found in LIVE_STATES:
            return "running" if starting or self._asked or runs.holder_pid(self._run.lock_path) is not None else ""
        return found if self._asked or fold.finished else ""

    def _error(self, state: str) -> tuple[str, ...]:
        if state == "lost":
            return ("the worker ended without saying why", f"its log: {short_path(self.place / 'worker.log')}")
        return make_error(self._fold) if state == "failed" else ()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
