"""Deleting the directory of a run or a sweep: never while a worker lives there or a job uses it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.io_errors import words_of
from engine.runs.at_work import uses_of
from engine.runs.lock import holder_text
from engine.runs.store import Run, worker_pid


def remove_run(run: Run) -> None:
    """Delete a run directory. Raises EngineError: RESOURCES while its worker lives or a job uses it, DISK."""
    remove_directory(run, kind="run")


def discard_run(run: Run) -> None:
    """Delete the directory of a run that never began; what cannot be deleted stays."""
    with contextlib.suppress(OSError):
        _delete(run.path, _aside(run))


def remove_directory(found: Run, *, kind: str) -> None:
    """Delete the directory of a run or sweep (`kind`), as `remove_run` does."""
    pid = worker_pid(found)
    if pid is not None:
        raise EngineError(
            f"{kind} {found.id} is running ({holder_text(pid)})",
            code=ExitCode.RESOURCES,
            hint=f"stop it first: engine {kind}s stop {found.id}",
        )
    _refuse_used(found, kind)
    try:
        os.replace(found.path, _aside(found))
        try:
            _refuse_used(found, kind)  # a job that began just now
        except EngineError:
            os.replace(_aside(found), found.path)
            raise
        shutil.rmtree(_aside(found), ignore_errors=True)
    except OSError as error:
        raise EngineError(
            f"{kind} {found.id} cannot be deleted: {words_of(error)}",
            code=ExitCode.DISK,
            where=str(found.path),
            hint="it belongs to another user, or its disk cannot be written",
        ) from error


def _refuse_used(found: Run, kind: str) -> None:
    uses = uses_of(found)
    if uses:
        raise EngineError(
            f"{kind} {found.id} is in use: {', '.join(work.describe() for work in uses)}",
            code=ExitCode.RESOURCES,
            hint="wait for its end, or end it there; 'engine jobs' lists what is at work",
        )


def _aside(found: Run) -> Path:
    return found.path.with_name(f".removed-{found.id}")


def _delete(path: Path, aside: Path) -> None:
    os.replace(path, aside)
    shutil.rmtree(aside, ignore_errors=True)
