"""What runs are listed by: their columns, their order, their groups. Pure functions of values.

A column is a word (`state`, `best`, `disk`, `tags`), a score (`perplexity`), or a setting by its dotted key (`lora.r`).
Not here: filters (`query.py`), reading files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.runs.notes import RunNotes

T = TypeVar("T")
Sortable = float | str | None
WORDS: Mapping[str, str] = {
    "run": "name",
    "state": "state",
    "model": "model",
    "how": "method and precision",
    "step": "steps done",
    "best": "lowest evaluation loss",
    "age": "time since the last event",
    "begun": "when it was made",
    "disk": "space on disk",
    "tags": "tags",
    "note": "note",
}
"""Columns that every run has, and what they say."""
_NUMBERS = ("step", "best", "age", "begun", "disk")
_FALLING = ("begun", "step", "disk")
"""Columns whose highest values come first unless it is asked otherwise."""


@dataclass(frozen=True, slots=True)
class RunTraits:
    """One run as lists see it. `last_s`: unix time of its last event; `settings` by dotted key."""

    run_id: str
    state: str = ""
    name: str = ""
    model: str = ""
    how: str = ""
    step: int = 0
    best: float | None = None
    last_s: float = 0.0
    disk_bytes: int | None = None
    """None = not measured yet."""
    notes: RunNotes = field(default_factory=RunNotes)
    scores: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key; lists and other things stay as they are."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = list(settings.items())
    while waiting:
        key, held = waiting.pop(0)
        if isinstance(held, Mapping):
            waiting[:0] = [(f"{key}.{name}", inner) for name, inner in held.items()]
        else:
            found[str(key)] = held
    return found


def value_of(traits: RunTraits, column: str) -> Sortable:
    """What a column has for a run, to order and to group by; None where it has nothing."""
    if column in WORDS:
        return _word_value(traits, column)
    if column in traits.scores:
        return traits.scores[column]
    found = traits.settings.get(column)
    if isinstance(found, bool) or found is None:
        return None if found is None else str(found).lower()
    return float(found) if isinstance(found, (int, float)) and abs(found) < 1e300 else str(found)


def _word_value(traits: RunTraits, column: str) -> Sortable:
    values: dict[str, Sortable] = {
        "run": traits.name or traits.run_id,
        "state": traits.state,
        "model": traits.model or None,
        "how": traits.how or None,
        "step": float(traits.step) if traits.step else None,
        "best": traits.best,
        "age": -traits.last_s or None,
        "begun": traits.run_id,
        "disk": None if traits.disk_bytes is None else float(traits.disk_bytes),
        "tags": " ".join(traits.notes.tags) or None,
        "note": traits.notes.note or None,
    }
    return values[column]


def text_of(traits: RunTraits, column: str) -> str:
    """The same as text; empty where there is nothing. Times are days and minutes."""
    if column == "age":
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(traits.last_s)) if traits.last_s else ""
    if column == "begun":
        return traits.run_id[:15]
    if column in WORDS or column in traits.scores:
        found = value_of(traits, column)
        return "" if found is None else f"{found:.4g}" if isinstance(found, float) else found
    return setting_text(traits.settings.get(column))


def setting_text(found: Any) -> str:
    """A setting as lists show it."""
    if found is None:
        return ""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, float):
        return f"{found:.6g}"
    return ", ".join(map(setting_text, found)) if isinstance(found, (list, tuple)) else str(found)


def falls(column: str, better: Mapping[str, int]) -> bool:
    """Whether a column begins with its highest value: newest runs, most steps, scores where more is better."""
    return column in _FALLING or better.get(column, 0) > 0


def ordered(items: Iterable[T], traits: Callable[[T], RunTraits], column: str, *, falling: bool) -> list[T]:
    """Items by a column; what has nothing there comes last, whichever way. Equal ones keep their order."""
    numbers: list[tuple[float, T]] = []
    texts: list[tuple[str, T]] = []
    nothing: list[T] = []
    for item in items:
        found = value_of(traits(item), column)
        if found is None:
            nothing.append(item)
        elif isinstance(found, float):
            numbers.append((found, item))
        else:
            texts.append((found.casefold(), item))
    numbers.sort(key=lambda pair: pair[0], reverse=falling)
    texts.sort(key=lambda pair: pair[0], reverse=falling)
    return [item for _, item in numbers] + [item for _, item in texts] + nothing


def grouped(items: Sequence[T], traits: Callable[[T], RunTraits], column: str) -> list[tuple[str, list[T]]]:
    """Items by the text of a column, groups in the order of its values; those without come last, under ``."""
    groups: dict[str, list[T]] = {}
    for item in ordered(items, traits, column, falling=False):
        groups.setdefault(text_of(traits(item), column), [])
    for item in items:
        groups[text_of(traits(item), column)].append(item)
    return list(groups.items())


def differing_settings(listed: Iterable[RunTraits]) -> list[str]:
    """Settings of which not all runs have the same, in the order in which they were found."""
    first: dict[str, Any] = {}
    differs: dict[str, None] = {}
    for count, traits in enumerate(listed):
        for key, held in traits.settings.items():
            if key not in first:
                first[key] = held
                if count:
                    differs[key] = None
            elif first[key] != held:
                differs[key] = None
        if count:
            differs.update((key, None) for key in first if key not in traits.settings)
    return list(differs)
