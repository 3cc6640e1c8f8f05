"""The data files that a profile names: where they are, and whether they can be read at all.

Called by `check.py` and by whatever opens them (`data_path`). Not here: their content (`engine.data`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.profile.findings import Finding, finding
from engine.profile.load import LoadedProfile
from engine.text import sanitize

BUILT_IN = "demo:"
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


def data_path(path: str, base_dir: Path) -> Path:
    """The file behind a profile's data path: relative to the profile's folder, `~`, or `demo:NAME`.

    Raises EngineError(DATA) for a built-in name that does not exist.
    """
    if path.startswith(BUILT_IN):
        from engine.demo.paths import data_file

        return data_file(path.removeprefix(BUILT_IN))
    try:
        return base_dir / Path(path).expanduser()
    except RuntimeError:
        return base_dir / path


def check_data_files(loaded: LoadedProfile) -> Iterator[Finding]:
    """Findings about every data file of the profile, each with the absolute path that was tried."""
    profile = loaded.partial
    if profile is None:
        return
    named = [(f"data.datasets.{number}.path", item.path) for number, item in enumerate(profile.data.datasets)]
    if profile.data.validation_path is not None:
        named.append(("data.validation_path", profile.data.validation_path))
    sound = [(key, path) for key, path in named if loaded.is_sound(key)]
    for key, path in sound:
        message, hint = _trouble(path, loaded.base_dir)
        if message:
            yield finding(loaded, key, message, hint, value=path, code=ExitCode.DATA)
    yield from _repeated(loaded, sound)


def _trouble(path: str, base_dir: Path) -> tuple[str, str]:
    try:
        file = data_path(path, base_dir)
    except EngineError as error:
        return error.message, error.hint
    shown = sanitize(os.path.normpath(file.absolute()), max_chars=300, single_line=True)
    if file.suffix.lower() not in SUFFIXES:
        return f"{shown} is none of {', '.join(SUFFIXES)}", "convert it to one of these"
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no file" if missing else f"cannot look at ({getattr(error, 'strerror', None) or 'bad path'})"
        return f"{reason} {shown}", "check the path; it is relative to the profile's folder"
    if not stat.S_ISREG(status.st_mode):
        return f"{shown} is not a file", "name one file; several go into [[data.datasets]] entries of their own"
    if not os.access(file, os.R_OK):
        return f"{shown} may not be read", "change its permissions"
    if status.st_size == 0:
        return f"{shown} is empty", "put examples into it"
    return "", ""


def _repeated(loaded: LoadedProfile, named: list[tuple[str, str]]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for key, path in named:
        same = os.path.normpath(path)
        if same in seen:
            message = f"the same file as {seen[same]}"
            hint = "held-out examples that were trained on prove nothing"
            if key != "data.validation_path":
                hint = "its examples count twice"
            yield finding(loaded, key, message, hint, value=path, is_warning=True)
        seen.setdefault(same, key)
