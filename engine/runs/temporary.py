"""Temporary folders of jobs that nobody keeps; what killed ones left behind goes when the next one is made."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.runs.lock import holder_pid

_PREFIX = "tunedeck-"
_KINDS = ("job-", "chat-")
_YOUNG_S = 60.0
"""A folder this young may wait for its worker."""


def make_temporary(kind: str) -> Path:
    """A fresh folder for a job: `job` or `chat`. Raises EngineError(DISK)."""
    try:
        root = Path(tempfile.gettempdir())
        _sweep(root)
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-", dir=root))
    except OSError as error:
        raise EngineError(
            f"no temporary folder can be made: {error.strerror or error}",
            code=ExitCode.DISK,
            where=os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "",
            hint="free space there, or set TMPDIR to a folder that can be written",
        ) from error


def _sweep(root: Path) -> None:
    try:
        names = [name for name in os.listdir(root) if name.startswith(tuple(_PREFIX + kind for kind in _KINDS))]
    except OSError:
        return
    for name in names:
        if _is_left(root / name):
            shutil.rmtree(root / name, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether it is ours, a folder and no link, and nobody works there or has begun to."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_S:
        return False
    return holder_pid(folder / "lock") is None
