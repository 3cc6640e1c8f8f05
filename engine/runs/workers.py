"""Which run a process works on, by its command line.

Not here: who holds a card (`engine.hardware`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from engine.runs.lock import locked_by
from engine.runs.record import JOB_FILE
from engine.runs.store import Run, runs_root

_MODULE = "engine.worker"
_MOST_BYTES = 65_536
PROC = Path("/proc")


def run_of_process(pid: int, proc: Path = PROC) -> Run | None:
    """The run of this user that process `pid` trains, scores or exports; None for any other process.

    The command line is another program's word: it names a run only where its folder lies below this user's runs.
    """
    run = _named(_command_line(proc / str(pid) / "cmdline"))
    return run if run is not None and run.path.is_dir() else None


def places(proc: Path = PROC) -> list[tuple[int, Path]]:
    """pid and directory of every worker of this user."""
    return [
        (int(entry.name), Path(words[words.index(_MODULE) + 1]))
        for entry in _processes(proc)
        if _is_ours(entry) and _MODULE in (words := _command_line(entry / "cmdline"))[:-1]
    ]


def works_in(pid: int, place: Path, proc: Path = PROC) -> bool:
    """Whether `pid` is a worker that was started for `place`: a file's word alone gets no process a signal.

    The system is asked who has the lock; where there are no locks, the command line tells. True where it cannot.
    """
    if locked_by(place / "lock") == pid:
        return True
    if not (proc / "self").exists():
        return True
    words = _command_line(proc / str(pid) / "cmdline")
    return _MODULE in words[:-1] and Path(words[words.index(_MODULE) + 1]).resolve() == place.resolve()


def orphans(proc: Path = PROC) -> dict[str, int]:
    """Workers of this user whose run was deleted: their pids by the run's id. Empty where the system has no /proc."""
    found: dict[str, int] = {}
    for entry in _processes(proc):
        run = _named(_command_line(entry / "cmdline"))
        if run is not None and not (run.path / JOB_FILE).exists() and _is_ours(entry):
            found.setdefault(run.id, int(entry.name))
    return found


def end_orphan(run_id: str) -> int | None:
    """Kill the worker of a run that was deleted; its pid, None where there is none. Nothing of it could be saved."""
    pid = orphans().get(run_id)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pid


def _named(words: list[str]) -> Run | None:
    """The run that a worker's command line names."""
    if _MODULE not in words[:-1]:
        return None
    place, root = Path(words[words.index(_MODULE) + 1]), runs_root()
    parts = place.relative_to(root).parts if place.is_relative_to(root) else ()
    return None if not parts or ".." in parts else Run(parts[0], root / parts[0])


def _processes(proc: Path) -> list[Path]:
    try:
        return [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _is_ours(entry: Path) -> bool:
    try:
        return entry.stat().st_uid == os.getuid()
    except OSError:
        return False


def _command_line(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return [word.decode(errors="replace") for word in file.read(_MOST_BYTES).split(b"\0")]
    except OSError:
        return []
