"""Completing a half-typed path, as a shell does. Reads folders: not for the screen's loop.

`~` stays as it was typed. Hidden names come when a dot was typed. Names that a terminal must not get are left out.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path

from engine.nearby import MOST_ENTRIES, did_you_mean
from tui.text import safe

LISTED = 40
"""Choices that are named; of more, only how many."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a path shall lead to: `suffixes` of files, none for any; folders always, for the way there."""

    base: Path
    """Where relative paths start."""
    suffixes: tuple[str, ...] = ()
    folders_only: bool = False
    names: tuple[str, ...] = ()
    """Beginnings such as `hub:` that are no paths."""
    models: bool = False
    """Whether the name of a known model will do, too."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The text that the field shall hold, and what else is to be said."""

    text: str
    choices: tuple[str, ...] = ()
    """Names that it can go on with, when there are several; folders end with a slash."""
    problem: str = ""

    @property
    def said(self) -> str:
        """The choices or the problem, as a line."""
        more = len(self.choices) - LISTED
        return self.problem or "  ".join([*self.choices[:LISTED], *([f"… {more} more"] if more > 0 else [])])


def complete(typed: str, wanted: Wanted) -> Completion:
    """Go on with what was typed as far as there is one way to do so."""
    found = _path(typed, wanted)
    return (_model(typed) or found) if wanted.models and found.problem else found


def _model(typed: str) -> Completion | None:
    """A known model whose name, with or without its owner, begins so; None where there is none."""
    from engine.api import fit

    lowered = typed.lower()
    known = [model.name for model in fit.load_catalog()]
    begun = [name for name in known if lowered and name.lower().startswith(lowered)]
    begun = begun or [name for name in known if lowered and name.rpartition("/")[2].lower().startswith(lowered)]
    if not begun:
        return None
    common = _shared(begun)
    return Completion(
        common if common.lower().startswith(lowered) or len(begun) == 1 else typed,
        tuple(sorted(begun)) if len(begun) > 1 else (),
    )


def _path(typed: str, wanted: Wanted) -> Completion:
    if typed.startswith(wanted.names):
        return Completion(typed, problem=f"tab completes paths; this begins with {typed.partition(':')[0]}:")
    if typed == "~":
        return Completion("~/")
    head, stem = typed[: typed.rfind("/") + 1], typed[typed.rfind("/") + 1 :]
    try:
        folder = wanted.base / Path(head or ".").expanduser()
        names = _names(folder, wanted, stem.startswith("."))
    except (OSError, ValueError, RuntimeError) as error:
        return Completion(typed, problem=_trouble(error, head, wanted))
    found = [name for name in names if name.startswith(stem)]
    found = found or [name for name in names if name.lower().startswith(stem.lower())]
    if not found:
        return Completion(typed, problem=_nothing(stem, folder))
    common = _shared(found)
    kept = common if len(common) >= len(stem) else stem
    return Completion(head + kept, tuple(found) if len(found) > 1 else ())


def _shared(names: list[str]) -> str:
    """The beginning that all names have."""
    first, last = min(names), max(names)
    differ = (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differ, min(len(first), len(last)))]


def _names(folder: Path, wanted: Wanted, hidden: bool) -> list[str]:
    """What of a folder is wanted, in order. Raises OSError or ValueError."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in itertools.islice(entries, MOST_ENTRIES) if hidden or not entry.name.startswith(".")]
    kept = (_as_wanted(entry, wanted) for entry in shown if safe(entry.name, 1000) == entry.name)
    return sorted((name for name in kept if name), key=str.lower)


def _as_wanted(entry: os.DirEntry[str], wanted: Wanted) -> str:
    """The name, with a slash behind a folder; empty for what is not wanted."""
    try:
        if entry.is_dir():
            return f"{entry.name}/"
    except OSError:
        return ""  # a link that leads nowhere
    suits = not wanted.suffixes or entry.name.lower().endswith(wanted.suffixes)
    return entry.name if suits and not wanted.folders_only else ""


def _nothing(stem: str, folder: Path) -> str:
    near = did_you_mean(folder / stem) if stem else ""
    where = f"nothing here begins with '{safe(stem, 60)}'" if stem else "nothing is in this folder that could be taken"
    return f"{where}: {near}" if near else where


def _trouble(error: Exception, head: str, wanted: Wanted) -> str:
    where = safe(head or wanted.base, 200)
    if isinstance(error, FileNotFoundError):
        near = did_you_mean(wanted.base / Path(head).expanduser())
        return f"there is no folder {where}" + (f": {near}" if near else "")
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return f"{where}: {safe(reason, 200).lower()}"


def data_wanted(base: Path) -> Wanted:
    """Files and folders of examples."""
    from engine.api.profiles import SUFFIXES, TEXT_SUFFIX

    return Wanted(base, (*SUFFIXES, TEXT_SUFFIX), names=("hub:", "demo:"))


def wanted_by(key: str, base: Path) -> Wanted | None:
    """What the path in a setting shall lead to; None for a setting that is no path."""
    if key == "data.validation_path" or (key.startswith("data.datasets.") and key.endswith(".path")):
        return data_wanted(base)
    if key == "model.name_or_path":
        return Wanted(base, (".gguf",), models=True)
    if key == "evaluate.retention_path":
        known = data_wanted(base)
        return replace(known, suffixes=(*known.suffixes, ".txt", ".md"))
    return Wanted(base, folders_only=True) if key == "evaluate.bertscore_encoder" else None
