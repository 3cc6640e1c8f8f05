"""Run directories: making, finding, judging and removing them. The files are the truth.

`$XDG_STATE_HOME/tunedeck/runs/<utc>-<name>-<4 hex>/` (mode 0700) holds `profile.toml run.json job.json
events.jsonl worker.log lock control/ checkpoints/ adapter/ eval/ export/`. Not here: starting a
worker (`launch.py`), reading what happened (`view.py`).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.files import read_json, write_json_atomic, write_text_atomic
from engine.runs.control import pending
from engine.runs.events import read_events
from engine.runs.lock import holder_pid

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
START_GRACE_S = 20.0
"""A run without lock and events that is younger than this is starting, not lost."""
_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory by its id."""

    id: str
    path: Path

    @property
    def events_path(self) -> Path:
        """The training's event stream."""
        return self.path / "events.jsonl"

    @property
    def lock_path(self) -> Path:
        """The liveness lock."""
        return self.path / "lock"


def state_home() -> Path:
    """Tunedeck's state directory, honouring XDG_STATE_HOME."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "tunedeck"


def runs_root() -> Path:
    """Where run directories are."""
    return state_home() / "runs"


def slug(name: str) -> str:
    """`name` made safe as a part of a directory name."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:48]
    return clean or "run"


def create_run(name: str, run_json: dict[str, Any], profile_text: str) -> Run:
    """Make a run directory with its settings. Raises EngineError(DISK) when it cannot be written."""
    run = new_directory(runs_root(), name, ("control", "checkpoints"))
    try:
        write_text_atomic(run.path / "profile.toml", profile_text)
        write_json_atomic(run.path / "run.json", run_json)
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        raise directory_error(run.path, error) from error
    return run


def new_directory(root: Path, name: str, folders: Iterable[str]) -> Run:
    """A fresh `<utc>-<name>-<4 hex>` below `root` with these folders in it. Raises EngineError(DISK)."""
    made_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{slug(name)}-{secrets.token_hex(2)}"
    made = Run(made_id, root / made_id)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.path.mkdir(mode=0o700)
        for folder in folders:
            (made.path / folder).mkdir(mode=0o700)
    except OSError as error:
        shutil.rmtree(made.path, ignore_errors=True)
        raise directory_error(made.path, error) from error
    return made


def directory_error(path: Path, error: OSError) -> EngineError:
    """What to tell when a directory below the state home cannot be made or filled."""
    return EngineError(
        f"cannot make a run directory: {error.strerror}",
        code=ExitCode.DISK,
        where=str(path),
        hint="free space there or set XDG_STATE_HOME to another folder",
    )


def list_runs() -> list[Run]:
    """All runs, newest first."""
    return directories(runs_root())


def directories(root: Path) -> list[Run]:
    """Directories below `root` that are not hidden, newest first."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [Run(name, root / name) for name in sorted(names, reverse=True) if not name.startswith(".")]


def find_run(reference: str) -> Run:
    """A run by id, by any unambiguous part of it, by directory, or `last`.

    Raises EngineError(PROFILE) when there is none or several.
    """
    named = _by_directory(reference)
    return named[0] if named else find_among(list_runs(), reference, kind="run", listed_by="engine runs list")


def find_among(runs: list[Run], reference: str, *, kind: str, listed_by: str) -> Run:
    """The one that is `last`, has this id, or alone has this in its id. Raises EngineError(PROFILE)."""
    if reference == "last" and runs:
        return runs[0]
    exact = [run for run in runs if run.id == reference]
    found = exact or [run for run in runs if reference and reference in run.id]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(run.id for run in found[:5])
        message = f"'{reference}' names {len(found)} {kind}s: {names}"
        raise EngineError(message, code=ExitCode.PROFILE, hint="give more of the id")
    message, where = f"no {kind} '{reference}'", str(state_home() / f"{kind}s")
    raise EngineError(message, code=ExitCode.PROFILE, where=where, hint=f"see '{listed_by}'")


def _by_directory(reference: str) -> list[Run]:
    path = Path(reference)
    if os.sep in reference and (path / "run.json").is_file():
        return [Run(path.resolve().name, path.resolve())]
    return []


def worker_pid(run: Run) -> int | None:
    """pid of the living worker, None when there is none."""
    return holder_pid(run.lock_path)


LIVE_STATES = ("running", "starting", "stopping")
"""States of a run that has a worker, or will have one in a moment."""


def run_state(run: Run) -> str:
    """`starting`, `running`, `stopping`, `completed`, `stopped`, `failed` or `lost`."""
    last_start, last_end = _last_marks(run)
    if worker_pid(run) is not None:
        if last_start is None:
            return "starting"
        return "stopping" if pending(run.path, "stop") else "running"
    resumed = last_end is not None and _is_asked_again(run, last_end)
    if last_end is not None and not resumed:
        return str(last_end.get("outcome", "failed"))
    is_new = last_start is None or resumed
    return "starting" if is_new and time.time() - _modified(run) < START_GRACE_S else "lost"


def _is_asked_again(run: Run, last_end: dict[str, Any]) -> bool:
    """Whether a worker was asked for after the last one's end: it takes the lock a moment later."""
    try:
        asked_at = read_json(run.path / "job.json").get("asked_at")
    except (OSError, ValueError):
        return False
    return isinstance(asked_at, (int, float)) and asked_at > float(last_end.get("t") or asked_at)


def _modified(run: Run) -> float:
    try:
        return (run.path / "job.json").stat().st_mtime
    except FileNotFoundError:
        return run.path.stat().st_mtime


def _last_marks(run: Run) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The last `started` and, if it came after, the last `finished` event.

    Looks at the end of the file only: a longer tail without either belongs to a started run.
    """
    try:
        size = run.events_path.stat().st_size
    except FileNotFoundError:
        return None, None
    offset = max(0, size - _TAIL_BYTES)
    started: dict[str, Any] | None = {} if offset else None
    finished: dict[str, Any] | None = None
    for event in read_events(run.events_path, offset)[0]:
        if event["type"] == "started":
            started, finished = event, None
        elif event["type"] == "finished":
            finished = event
    return started, finished


def load_run_json(run: Run) -> dict[str, Any]:
    """The resolved settings of a run. Raises EngineError(PROFILE) when the file is damaged."""
    try:
        return read_json(run.path / "run.json")
    except (OSError, ValueError) as error:
        raise EngineError(
            f"run.json cannot be read: {error}",
            code=ExitCode.PROFILE,
            where=str(run.path),
            hint="the run cannot be used",
        ) from error


def remove_run(run: Run) -> None:
    """Delete a run directory. Raises EngineError(RESOURCES) while its worker lives."""
    remove_directory(run, kind="run")


def remove_directory(found: Run, *, kind: str) -> None:
    """Delete the directory of a run or sweep (`kind`). Raises EngineError(RESOURCES) while its worker lives."""
    pid = worker_pid(found)
    if pid is not None:
        raise EngineError(
            f"{kind} {found.id} is running (pid {pid})",
            code=ExitCode.RESOURCES,
            hint=f"stop it first: engine {kind}s stop {found.id}",
        )
    doomed = found.path.with_name(f".removed-{found.id}")
    os.replace(found.path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
