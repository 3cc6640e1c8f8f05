"""A profile from a file (and `--set`) to a checked `Profile`, or to everything that is wrong with it.

Nothing is executed and no path in it is opened. Not here: checks across fields, files and models (`check.py`), the
choice of `"auto"` (`resolve.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Problem
from engine.profile.fieldspec import leaves
from engine.profile.overrides import apply_overrides
from engine.profile.schema import Profile
from engine.profile.schema_problems import Validated, validate
from engine.profile.tomltext import BadToml, key_lines, line_of, parse, read_text, shown_path


@dataclass(frozen=True, slots=True)
class LoadedProfile:
    """What a file said. `profile` is None when `problems` is not empty."""

    path: Path
    text: str
    profile: Profile | None
    problems: tuple[Problem, ...]
    lines: dict[str, int]
    """Dotted key -> line."""
    overridden: frozenset[str]
    """Keys that `--set` gave."""
    given: frozenset[str]
    """Leaf keys that the file or `--set` gave; all others have defaults."""
    partial: Profile | None = None
    """What validated, with stand-ins for required settings that are missing: for further checks."""
    broken: frozenset[str] = frozenset()
    """Keys whose value in `partial` is not the person's."""

    @property
    def base_dir(self) -> Path:
        """Folder that relative paths in the profile start from."""
        return self.path.absolute().parent

    def locate(self, key: str) -> tuple[str, int | None]:
        """Where a key was given: `file:line`, or `--set key`."""
        return _locate(self.path, self.lines, self.overridden, key)

    def is_given(self, key: str) -> bool:
        """Whether the person set it and it is usable."""
        return key in self.given and self.is_sound(key)

    def is_sound(self, *keys: str) -> bool:
        """Whether `partial` holds the person's values (or defaults) under these keys."""
        return not any(key == bad or key.startswith(f"{bad}.") for key in keys for bad in self.broken)


def load_profile(path: Path | str, overrides: Sequence[str] = ()) -> LoadedProfile:
    """Read and validate `path` with `overrides` ('dotted.key=value') on top. Never raises for bad input."""
    source = Path(path)
    try:
        text = read_text(source)
    except BadToml as error:
        return _unreadable(source, "", error.problem)
    return load_text(text, source, overrides)


def load_text(text: str, path: Path, overrides: Sequence[str] = ()) -> LoadedProfile:
    """Like `load_profile` for text that is not (yet) in the file."""
    try:
        tree = parse(text, shown_path(path))
    except BadToml as error:
        return _unreadable(path, text, error.problem)
    lines = key_lines(text)
    overridden, problems = apply_overrides(tree, overrides)
    found = validate(tree, lambda key: _locate(path, lines, overridden, key))
    return _loaded(path, text, lines, overridden, frozenset((key for key, _ in leaves(tree))), found, problems)


def _loaded(
    path: Path,
    text: str,
    lines: dict[str, int],
    overridden: frozenset[str],
    given: frozenset[str],
    found: Validated,
    problems: list[Problem],
) -> LoadedProfile:
    return LoadedProfile(
        path=path,
        text=text,
        profile=None if problems else found.profile,
        problems=(*problems, *found.problems),
        lines=lines,
        overridden=overridden,
        given=given,
        partial=found.partial,
        broken=found.broken,
    )


def _unreadable(path: Path, text: str, problem: Problem) -> LoadedProfile:
    return LoadedProfile(path, text, None, (problem,), {}, frozenset(), frozenset())


def _locate(path: Path, lines: dict[str, int], overridden: frozenset[str], key: str) -> tuple[str, int | None]:
    if any(key == name or key.startswith(f"{name}.") for name in overridden):
        return "--set", None
    line = line_of(lines, key)
    shown = shown_path(path)
    return (f"{shown}:{line}", line) if line else (shown, None)
