"""Putting a finished export in its place: whole or not at all, and the old one until then.

Everything is written into a hidden directory beside the target, fsynced, and swapped in by rename.
Not here: what is written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.export.report import MARK_FILE
from engine.files import recover_directory, swap_directory, sync_tree
from engine.text import format_bytes

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_FULL_TEXT = re.compile(r"no space left|disk quota|os error (28|122)", re.IGNORECASE)


def check_target(target: Path) -> None:
    """Refuse a place that holds anything but an earlier export. Raises EngineError(PROFILE or DISK)."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise EngineError(
            "the output is not a directory", code=ExitCode.PROFILE, where=str(target), hint="name another"
        )
    if target.is_dir() and not (target / MARK_FILE).is_file() and any(target.iterdir()):
        raise EngineError(
            "the output directory holds files that no export wrote",
            code=ExitCode.PROFILE,
            where=str(target),
            hint="name a new or empty directory",
        )


def check_space(target: Path, needed_bytes: int) -> None:
    """Raises EngineError(DISK) when the file system of `target` has less than `needed_bytes` free."""
    free = shutil.disk_usage(_existing(target)).free
    if free < needed_bytes:
        raise EngineError(
            f"the export takes {format_bytes(needed_bytes)}, {format_bytes(free)} is free",
            code=ExitCode.DISK,
            where=str(target),
            hint="free space there or choose another place with --output",
        )


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A directory to write the export into; when the block ends it becomes `target`, else it is removed.

    Raises EngineError(DISK) for a full or read-only disk; an export that was there stays untouched.
    """
    beside = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        beside.mkdir(mode=0o700)
        try:
            yield beside
            sync_tree(beside)
            swap_directory(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def recover(target: Path) -> None:
    """Clear up after an export that was killed: bring back the old one, remove what was half written."""
    recover_directory(target)
    for stale in target.parent.glob(f".{target.name}.tmp-*"):
        pid = stale.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(stale, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn the many faces of a disk that cannot be written into one EngineError(DISK).

    safetensors reports a full disk as an exception of its own, torch as RuntimeError: both only by text.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        known = isinstance(error, OSError) and error.errno in _FULL
        if not known and not _FULL_TEXT.search(str(error)):
            raise
        reason = (isinstance(error, OSError) and error.strerror) or "no space left"
        raise EngineError(
            f"the export cannot be written: {reason}",
            code=ExitCode.DISK,
            where=str(target),
            hint="free space there or choose another place with --output; an earlier export stands as it was",
        ) from error


def size_bytes(folder: Path) -> int:
    """Bytes of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
