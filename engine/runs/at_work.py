"""Workers of this user that are at work on this machine: what each does, on which run, and who waits for it.

Told from the processes and the `job.json` that each was started for: a job writes nothing into a run that it only
reads, and a run knows who uses it all the same. Not here: what holds a card (`engine.hardware`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.jsonvalues import Unreadable, text_in
from engine.runs.jobs import EVALUATION_FOLDER, EXPORT_FOLDER
from engine.runs.lock import ELSEWHERE, holder_pid, holder_text
from engine.runs.parent import waiting_for
from engine.runs.record import load_job
from engine.runs.store import Run
from engine.runs.workers import PROC, places

_COMMANDS = {
    "train": "train",
    "sweep": "sweep",
    "evaluate": "evaluate",
    "harness": "evaluate --harness",
    "export": "export",
    "chat": "chat",
    "data_check": "data check",
    "data_preview": "data preview",
}
_SCORING_FOLDER = "score"
_FOLDERS = {EVALUATION_FOLDER: "evaluate", EXPORT_FOLDER: "export", _SCORING_FOLDER: "evaluate"}


@dataclass(frozen=True, slots=True)
class Work:
    """One worker."""

    pid: int
    """`ELSEWHERE` for one in another container or on another machine."""
    command: str
    """The command that does such work: `evaluate`, `data check`; `?` where nothing says it."""
    place: Path
    run: Path | None
    """The run that it makes or uses."""
    since: float | None = None
    """Unix time of its start."""
    waited_for_by: int | None = None
    """pid of the command that waits for it; None: it goes on by itself."""

    def describe(self) -> str:
        """`engine export (pid 1234)`."""
        return f"engine {self.command} ({holder_text(self.pid)})"


def at_work(proc: Path = PROC) -> list[Work]:
    """Every worker of this user, the longest at work first. Empty where the system has no /proc."""
    found = [_work(pid, place) for pid, place in places(proc)]
    return sorted(found, key=lambda work: work.since or 0.0)


def uses_of(run: Run, proc: Path = PROC) -> list[Work]:
    """Jobs that read or score `run` now; its own training is none of them."""
    path = run.path.resolve()
    here = [work for work in at_work(proc) if work.run == path and work.place != path]
    return here + [
        Work(ELSEWHERE, command, path / name, path)
        for name, command in _FOLDERS.items()
        if holder_pid(path / name / "lock") == ELSEWHERE
    ]


def _work(pid: int, place: Path) -> Work:
    job = load_job(place)
    kind = "" if isinstance(job, Unreadable) else job.job
    named = "" if isinstance(job, Unreadable) else text_in(job.params, "run_dir")
    run = Path(named).resolve() if named else place if kind == "train" else None
    return Work(pid, _COMMANDS.get(kind, "?"), place, run or _holding(place), _start(pid), waiting_for(pid))


def _holding(place: Path) -> Path | None:
    """The run in whose folder a job works, where its `job.json` does not say it."""
    return place.parent if place.name in _FOLDERS else None


def _start(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError):
        return None
