"""The profiles that come with the package, by name.

Importing it loads no pydantic.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.text import sanitize


@dataclass(frozen=True, slots=True)
class ShippedProfile:
    """A profile inside the package."""

    name: str
    path: Path
    description: str


def shipped_profiles() -> tuple[ShippedProfile, ...]:
    """All of them, sorted by name."""
    folder = Path(str(files("profiles")))
    return tuple(_describe(path) for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem))


def shipped_profile(name: str) -> ShippedProfile:
    """The shipped profile called `name` (suffix optional). Raises EngineError(PROFILE) with the nearest name."""
    known = {item.name: item for item in shipped_profiles()}
    found = known.get(name.removesuffix(".toml"))
    if found is not None:
        return found
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
    shown = sanitize(name, max_chars=100, single_line=True)
    raise EngineError(f"no shipped profile is called '{shown}'", code=ExitCode.PROFILE, hint=hint)


def find_profile(reference: Path | str) -> Path:
    """The file a person means: a path that exists, else a shipped profile's bare name, else the path as given."""
    path = Path(reference)
    known = {item.name: item.path for item in shipped_profiles()}
    if not path.exists() and str(reference) in known:
        return known[str(reference)]
    return path


def _describe(path: Path) -> ShippedProfile:
    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    return ShippedProfile(path.stem, path, str(tree.get("description", "")))
