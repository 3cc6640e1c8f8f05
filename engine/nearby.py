"""Paths that resemble one that is not there: what a person probably meant.

Not here: names of models (`engine.models.nearest`), of settings (`engine.profile.names`).
"""

from __future__ import annotations

import difflib
import itertools
import os
from pathlib import Path

from engine.text import sanitize

MOST_ENTRIES = 5000
"""Of a larger folder only so many names are looked at."""
_LIKENESS = 0.6


def nearest_path(path: Path) -> str:
    """The end of a path that is there and resembles `path`, which is not: from the first part that differs on.

    Empty when nothing does, or where the folders cannot be read.
    """
    try:
        folder, name, *rest = _first_missing(path)
        names = [entry.name for entry in itertools.islice(os.scandir(folder), MOST_ENTRIES)]
        near = next(iter(_like(name, names)), "")
        there = bool(near) and Path(folder, near, *rest).exists()
    except (OSError, ValueError):
        return ""
    return sanitize(os.path.join(near, *rest), max_chars=200, single_line=True) if there else ""


def did_you_mean(path: Path) -> str:
    """`did you mean 'rows.jsonl'?`, or nothing."""
    near = nearest_path(path)
    return f"did you mean '{near}'?" if near else ""


def _first_missing(path: Path) -> list[str]:
    """The deepest folder that is there, then the parts behind it. Raises ValueError when the path itself is there."""
    parts = [path.name]
    for folder in path.absolute().parents:
        if folder.is_dir():
            if not Path(folder, *parts).exists():
                return [str(folder), *parts]
            break
        parts.insert(0, folder.name)
    raise ValueError("the path is there")


def _like(name: str, names: list[str]) -> list[str]:
    """Names that `name` begins, however it is written; else those with nearly the same letters."""
    lowered = name.lower()
    begun = sorted((other for other in names if other.lower().startswith(lowered)), key=len)
    by_stem = {Path(other).stem.lower(): other for other in sorted(names, reverse=True)}
    by_name = {other.lower(): other for other in sorted(names, reverse=True)}
    found = [by_name[near] for near in difflib.get_close_matches(lowered, by_name, n=1, cutoff=_LIKENESS)]
    found += [by_stem[near] for near in difflib.get_close_matches(Path(lowered).stem, by_stem, n=1, cutoff=_LIKENESS)]
    return [*begun, *found]
