"""Profile texts as the form needs them: parsed, edited with comments kept, read, written.

The only module of the deck that imports `engine.profile` (and with it pydantic), always at call time:
the fit screen must come up without it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.api.fit import Machine
    from engine.api.profiles import Examination, FieldSpec, LoadedProfile


def values_of(text: str) -> dict[str, Any]:
    """What a profile's text sets; empty where it is not TOML."""
    from engine.api.profiles import leaves

    try:
        return dict(leaves(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return {}


def edited(text: str, changes: Mapping[str, Any], path: Path) -> str:
    """`text` with dotted keys changed, None removing one. Raises EngineError."""
    from engine.api.profiles import edited_text

    return edited_text(text, changes, path) if changes else text


def loaded(text: str, path: Path) -> LoadedProfile:
    """A validated profile of `text`, as if it stood in `path`."""
    from engine.api.profiles import load_text

    return load_text(text, path)


def examine(profile: LoadedProfile, machine: Machine | None) -> Examination:
    """Problems, warnings and, where the settings allow one, the plan: also one that does not fit."""
    from engine.api.profiles import examine as check

    return check(profile, machine)


def value_text(value: Any) -> str:
    """A value as the form shows and reads it."""
    from engine.api.profiles import format_value

    return format_value(value)


def allowed(field: FieldSpec) -> str:
    """What a setting accepts, in words."""
    from engine.api.profiles import allowed as words

    return words(field)


def save(path: Path, text: str) -> None:
    """Validate and write. Raises EngineError and leaves the file as it was."""
    from engine.api.profiles import save_text

    save_text(path, text)


def toml_of(settings: Mapping[str, Any]) -> str:
    """TOML of nested settings."""
    from engine.api.profiles import profile_text

    return profile_text(settings)


def moved_paths(values: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """Relative paths among `values` that mean other files when a profile moves from `old` to `new`, rewritten."""
    if old.absolute() == new.absolute():
        return {}
    named = {"model.name_or_path", "data.validation_path"}
    changed = {}
    for key, value in values.items():
        if key in named or (key.startswith("data.datasets.") and key.endswith(".path")):
            path = old.absolute() / str(value)
            if value and not Path(str(value)).expanduser().is_absolute() and path.exists():
                changed[key] = str(path)
    return changed


def free_path(stem: str, folder: Path | None = None) -> Path:
    """`STEM.toml` in `folder` (default: here), or the first numbered one that is not there yet."""
    place = folder or Path.cwd()
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._").lower()[:48] or "profile"
    names = [f"{clean}.toml", *(f"{clean}-{number}.toml" for number in range(2, 1000))]
    return next((place / name for name in names if not (place / name).exists()), place / names[0])


def difference(before: str, after: str, name_before: str, name_after: str) -> list[str]:
    """The lines that differ, with two around them, as `diff -u` writes them; empty when none do."""
    from difflib import unified_diff

    lines = unified_diff(before.splitlines(), after.splitlines(), name_before, name_after, lineterm="", n=2)
    return list(lines)


def read(path: Path) -> str:
    """The text of a profile. Raises EngineError when it cannot be read."""
    from engine.api.profiles import BadToml, read_text
    from engine.errors import ExitCode, problems_error

    try:
        return read_text(path)
    except BadToml as error:
        raise problems_error([error.problem], ExitCode.PROFILE, str(path)) from None


def shipped() -> list[tuple[str, str]]:
    """Names and texts of the profiles that come with the program."""
    found = []
    for entry in sorted(resources.files("profiles").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            found.append((entry.name.removesuffix(".toml"), entry.read_text(encoding="utf-8")))
    return found
