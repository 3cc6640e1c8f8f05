"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any


def write_bytes_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write beside `path`, fsync, rename, fsync the directory. Raises OSError (disk full, permission)."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text_atomic(path: Path, text: str, *, mode: int = 0o600) -> None:
    """`write_bytes_atomic` for UTF-8 text."""
    write_bytes_atomic(path, text.encode("utf-8"), mode=mode)


def write_json_atomic(path: Path, value: Any, *, mode: int = 0o600) -> None:
    """`write_bytes_atomic` for a JSON document; raises ValueError on NaN or infinity."""
    write_text_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n", mode=mode)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`. Raises OSError or ValueError (not JSON, not an object)."""
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


def swap_directory(beside: Path, target: Path) -> None:
    """Put the filled directory `beside` in the place of `target`: readers see the old or the new one, never half.

    What was there comes back when that fails. Raises OSError. `recover_directory` clears up after a kill in between.
    """
    old = old_directory(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    try:
        os.replace(beside, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_directory(target: Path) -> None:
    """Bring back what `swap_directory` had moved aside when it was killed; remove it where the new one stands."""
    old = old_directory(target)
    if old.is_dir() and not target.exists():
        os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)


def old_directory(target: Path) -> Path:
    """Where `swap_directory` keeps what was there until the new one stands."""
    return target.with_name(f".{target.name}.old")


def sync_directory(path: Path) -> None:
    """Make a rename or a new entry in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """fsync every file and directory under `path`."""
    for folder, _, names in os.walk(path):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))


_BESIDE = re.compile(r"\..+\.(\d+)(?:\.[0-9a-f]+)?\.tmp")


def sweep_temporaries(folder: Path) -> None:
    """Remove what killed writers left in `folder` beside the files that they wrote; those of living ones stay."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _BESIDE.fullmatch(name)
        if found and not _is_alive(int(found[1])):
            with contextlib.suppress(OSError):
                os.unlink(folder / name)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid != os.getpid()
