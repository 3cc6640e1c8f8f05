"""What a person has edited in the `profile.toml` of a run since it began.

A run goes on with its run.json; its profile.toml is read again by nobody. A new run can begin with the edits: `branch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.profile.fieldspec import leaves
from engine.profile.schema_problems import show
from engine.profile.tomltext import BadToml, parse, read_text
from engine.runs.record import PROFILE_TEXT, RunRecord
from engine.text import sanitize

_TOLD = 6
"""Edits that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A setting whose value in the file is another one; None = not there."""

    key: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return sanitize(f"{self.key}: {_shown(self.was)} → {_shown(self.now)}", single_line=True)


def _shown(value: Any) -> str:
    return "not set" if value is None else show(value)


def edits_of(record: RunRecord, profile: Path) -> tuple[Edit, ...]:
    """What differs in `profile` from what the run began with. Raises BadToml where it cannot be read."""
    now = dict(leaves(parse(read_text(profile), profile.name)))
    text = record.raw.get(PROFILE_TEXT)
    was = dict(leaves(parse(text, profile.name))) if isinstance(text, str) else _began_with(record, now)
    keys = [*now, *(key for key in was if key not in now)]
    return tuple(Edit(key, was.get(key), now.get(key)) for key in keys if was.get(key) != now.get(key))


def _began_with(record: RunRecord, now: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a run that kept no text: what run.json says was the profile's own or left at its default."""
    settings = dict(leaves(record.settings))
    found = {}
    for key in {*now, *record.provenance}:
        source = record.provenance[key].source if key in record.provenance else ""
        if source == "profile" or (key in now and source == "default"):
            found[key] = settings.get(key)
        elif key in now:
            found[key] = now[key]
    return found


def edits_in_words(record: RunRecord, run_dir: Path) -> str:
    """One sentence about edits that a resumed run does not follow; empty where there are none."""
    path, again = run_dir / "profile.toml", f"engine runs branch {run_dir.name}"
    try:
        edits = edits_of(record, path)
    except BadToml as error:
        return f"the run's profile.toml is not what it began with ({error}): it goes on with the settings in run.json"
    if not edits:
        return ""
    named = ", ".join(map(str, edits[:_TOLD]))
    more = f" and {len(edits) - _TOLD} more" if len(edits) > _TOLD else ""
    return (
        f"edits in the run's profile.toml have no effect on this run: {named}{more}"
        f" - a new run from this one with them: {again}"
    )
