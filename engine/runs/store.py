"""Run directories: making, finding and removing them. The files are the truth.

`$XDG_STATE_HOME/tunedeck/runs/<utc>-<name>-<4 hex>/` (mode 0700) holds `profile.toml run.json job.json
events.jsonl worker.log lock control/ checkpoints/ adapter/ eval/ export/`. Not here: starting a
worker (`launch.py`), what the files say (`record.py`, `view.py`), the state of a run (`state.py`).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic, write_text_atomic
from engine.io_errors import words_of
from engine.runs.lock import holder_pid
from engine.runs.record import JOB_FILE, RUN_FILE

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MADE_HERE = re.compile(r"\d{8}-\d{6}-.+-[0-9a-f]{4}")
_TELLING = (RUN_FILE, JOB_FILE, "events.jsonl", "profile.toml")
"""Any of these makes a folder a run, whatever a person has named it."""


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
        write_json_atomic(run.path / RUN_FILE, run_json)
    except BaseException as error:
        shutil.rmtree(run.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise directory_error(run.path, error) from error
        raise
    return run


def new_directory(root: Path, name: str, folders: Iterable[str]) -> Run:
    """A fresh `<utc>-<name>-<4 hex>` below `root` with these folders in it. Raises EngineError(DISK)."""
    made_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{slug(name)}-{secrets.token_hex(2)}"
    made = Run(made_id, root / made_id)
    _refuse_bytes(root)
    refuse_unsafe(root)
    try:
        state_home().mkdir(mode=0o700, parents=True, exist_ok=True)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.path.mkdir(mode=0o700)
        for folder in folders:
            (made.path / folder).mkdir(mode=0o700)
    except BaseException as error:
        shutil.rmtree(made.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise directory_error(made.path, error) from error
        raise
    return made


def _refuse_bytes(root: Path) -> None:
    """Tokenizers and weights are saved by libraries that take no other path: better said now than after training."""
    try:
        os.fspath(root).encode("utf-8")
    except UnicodeEncodeError:
        raise EngineError(
            "the folder of runs has a name that is not UTF-8: models cannot be saved there",
            code=ExitCode.DISK,
            where=repr(os.fsencode(root)),
            hint="set XDG_STATE_HOME to another folder",
        ) from None


def directory_error(path: Path, error: OSError) -> EngineError:
    """What to tell when a directory below the state home cannot be made or filled."""
    return EngineError(
        f"cannot make a run directory: {words_of(error)}",
        code=ExitCode.DISK,
        where=str(path),
        hint="free space there or set XDG_STATE_HOME to another folder",
    )


def list_runs() -> list[Run]:
    """All runs, newest first. Raises EngineError(DISK) when their folder cannot be read."""
    return directories(runs_root())


def directories(root: Path) -> list[Run]:
    """Runs, or sweeps, below `root`, newest first; any other folder is none. Raises EngineError(DISK)."""
    refuse_unsafe(root)
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EngineError(
            f"the folder cannot be read: {words_of(error)}",
            code=ExitCode.DISK,
            where=str(root),
            hint="put a folder there that you may read, or set XDG_STATE_HOME to another one",
        ) from error
    return [Run(name, root / name) for name in sorted(names, reverse=True) if _is_run(root / name)]


def _is_run(folder: Path) -> bool:
    """Whether it was made here, even where its files are lost, or holds files of a run."""
    if folder.name.startswith("."):
        return False
    return bool(_MADE_HERE.fullmatch(folder.name)) or any((folder / name).exists() for name in _TELLING)


def refuse_unsafe(root: Path) -> None:
    """Raise EngineError(DISK) where somebody else could put runs of theirs in the place of ours.

    That is a folder that all may write, or a link that another user made. Another user's folder may be read.
    """
    for path in (state_home(), root):
        try:
            entry = os.lstat(path)
            folder = os.stat(path)
        except OSError:
            return
        if stat.S_ISLNK(entry.st_mode) and entry.st_uid not in (os.getuid(), 0):
            raise _unsafe(
                path, "is a link that another user made", "remove it, or set XDG_STATE_HOME to another folder"
            )
        if folder.st_mode & stat.S_IWOTH:
            raise _unsafe(path, "can be written by every user of this machine", f"chmod go-w {path}")


def _unsafe(path: Path, why: str, hint: str) -> EngineError:
    return EngineError(f"the folder of runs {why}: it is not used", code=ExitCode.DISK, where=str(path), hint=hint)


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
    if os.sep in reference and (path / RUN_FILE).is_file():
        return [Run(path.resolve().name, path.resolve())]
    return []


def worker_pid(run: Run) -> int | None:
    """pid of the living worker, None when there is none."""
    return holder_pid(run.lock_path)
