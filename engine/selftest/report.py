"""A self-test as a file for an issue: the record without anything that tells who or where it was.

Host name, user, home and other folders, UUIDs and serial-like ids are replaced wherever they stand, in words of errors
too. An existing file is overwritten only if a self-test wrote it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.runs.files import write_json_atomic
from engine.runs.store import state_home
from engine.selftest.record import read_earlier

_UUID = re.compile(r"(?:GPU-|MIG-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PCI = re.compile(r"\b[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-9a-fA-F]\b")
_HOMES = re.compile(r"/(?:home|Users)/[^/\s'\":,]+")
_ABSOLUTE = re.compile(r"(?<![\w.~>])/(?:[\w.@+-]+/)+([\w.@+-]+)")
"""A path keeps its last part: a module's file name helps, its folder does not."""


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


def clean(value: Any) -> Any:
    """`value` with every text in it cleaned, keys too."""
    rules = tuple(_rules())
    return _cleaned(value, rules)


def _cleaned(value: Any, rules: tuple[tuple[re.Pattern[str], str], ...]) -> Any:
    if isinstance(value, dict):
        return {_cleaned(str(key), rules): _cleaned(item, rules) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item, rules) for item in value]
    if not isinstance(value, str):
        return value
    for pattern, word in rules:
        value = pattern.sub(word, value)
    return value


def _rules() -> Iterator[tuple[re.Pattern[str], str]]:
    """Longest folders first; then what may stand in any of them."""
    folders = {
        str(state_home()): "<state>",
        os.path.expanduser("~"): "~",
        sys.prefix: "<python>",
        os.getcwd(): "<here>",
    }
    for folder in sorted(folders, key=len, reverse=True):
        if len(folder) > 1:
            yield re.compile(re.escape(folder) + r"(?![\w-])"), folders[folder]
    yield _UUID, "<uuid>"
    yield _PCI, "<bus>"
    yield _HOMES, "~"
    yield _ABSOLUTE, r".../\1"
    for names, word in ((_hosts(), "<host>"), (_users(), "<user>")):
        for name in sorted(names, key=len, reverse=True):
            yield re.compile(rf"(?<![\w]){re.escape(name)}(?![\w])", re.IGNORECASE), word


def _hosts() -> set[str]:
    whole = os.uname().nodename
    return {name for name in (whole, whole.partition(".")[0], os.environ.get("HOSTNAME", "")) if len(name) > 1}


def _users() -> set[str]:
    names = {os.environ.get(key, "") for key in ("USER", "LOGNAME", "SUDO_USER")}
    with contextlib.suppress(KeyError, OSError):  # no name in the system: nothing to hide
        names.add(getpass.getuser())
    names.add(os.path.basename(os.path.expanduser("~")))
    return {name for name in names if len(name) > 1}
