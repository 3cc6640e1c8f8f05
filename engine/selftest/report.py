"""A self-test as a file for an issue: the record without anything that tells who or where it was.

Absolute paths, addresses, host names, user names, UUIDs and serial-like ids are replaced wherever they stand, in
words of errors too (`mask.py`). An existing file is overwritten only if a self-test wrote it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.selftest.mask import clean
from engine.selftest.record import read_earlier


def check_report_path(path: Path) -> None:
    """Before anything runs: make the file that is written beside it, and remove it.

    Raises EngineError(PROFILE) for a file of somebody else's, (DISK) where none can be written.
    """
    try:
        if path.exists():
            read_earlier(path)
        elif not path.absolute().parent.is_dir():
            raise EngineError("no such folder", code=ExitCode.DISK, where=str(path.parent), hint="make it first")
        beside = path.absolute().with_name(f".{path.name}.{os.getpid()}.tmp")
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        beside.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_report(path: Path, record: dict[str, Any]) -> None:
    """Write the cleaned record. Raises EngineError as `check_report_path`, (DISK) when it cannot be written."""
    check_report_path(path)
    try:
        write_json_atomic(path.absolute(), clean(record), mode=0o644)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"the report cannot be written: {error.strerror}",
        code=ExitCode.DISK,
        where=str(path),
        hint="name a file in a folder of yours",
    )
