"""Data files named by a pattern such as `data/*.jsonl` or `parts/**/train-?.csv`: found by name, sorted, bounded.

Files stay below the folder that stands before the first wildcard. Hidden files and folders behind links are left out.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from engine.errors import EngineError, ExitCode

MOST_FILES = 10_000
MOST_LOOKED_AT = 200_000
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")


def is_pattern(path: Path) -> bool:
    """Whether a path is meant as a pattern: it has wildcards, and no file of just that name exists."""
    return any(mark in str(path) for mark in "*?[") and not os.path.lexists(path)


def matching_files(pattern: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The data files that a pattern names, sorted by their path; packed ones too, as their reader says what to do.

    Raises EngineError(DATA) where there is none, or where more is to be looked at than anyone means.
    """
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if any(mark in part for mark in "*?["))
    if ".." in parts[first:]:
        raise _error(pattern, "'..' stands behind a wildcard", "name the folder before the first wildcard")
    looked = _Looked(pattern)
    found = sorted(set(_below(Path(*parts[:first]), parts[first:], looked)))
    wanted = (*suffixes, ".txt") if parts[-1].endswith(".txt") else suffixes
    files = [path for path in found if path.suffix.lower() in (*wanted, *_PACKED)]
    if not files:
        others = f"; {len(found):,} other files match" if found else ""
        raise _error(pattern, f"no data file matches the pattern{others}", f"known: {', '.join(suffixes)}")
    if len(files) > MOST_FILES:
        raise _error(pattern, f"more than {MOST_FILES:,} files match", "join them, or name a folder of parquet files")
    return files


class _Looked:
    """Counts directory entries, so that a pattern over a whole disk ends."""

    def __init__(self, pattern: Path) -> None:
        self.pattern, self.count = pattern, 0

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What a folder holds, hidden names left out; nothing where it cannot be read."""
        try:
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            return []
        self.count += len(found)
        if self.count > MOST_LOOKED_AT:
            message = f"the pattern looks at more than {MOST_LOOKED_AT:,} files and folders"
            raise _error(self.pattern, message, "name a folder nearer to the data before the first wildcard")
        return found


def _below(folder: Path, parts: tuple[str, ...], looked: _Looked) -> Iterator[Path]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        folders = [folder]
        while folders:
            here = folders.pop()
            yield from _below(here, rest or ("*",), looked)
            folders += [here / entry.name for entry in looked.entries(here) if _is_folder(entry, follow=False)]
        return
    for entry in looked.entries(folder):
        if not fnmatch.fnmatchcase(entry.name, part):
            continue
        if rest and _is_folder(entry, follow=True):
            yield from _below(folder / entry.name, rest, looked)
        elif not rest and not _is_folder(entry, follow=True):
            yield folder / entry.name


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _error(pattern: Path, message: str, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.DATA, where=str(pattern), hint=hint)
