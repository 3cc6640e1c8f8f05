"""A profile in the making: settings with where each came from, and what could not be carried over.

Filled by the rules of a dialect (`llamafactory.py`, `axolotl.py`), written by `write.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.profile.foreign.yamltext import Entry
from engine.text import sanitize

Kind = Literal["left out", "changed", "not needed"]


@dataclass(frozen=True, slots=True)
class Note:
    """What became of a setting that has no place of its own. `left out` loses something."""

    kind: Kind
    key: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


@dataclass(slots=True)
class Draft:
    """`settings`: dotted key -> value; `origins`: dotted key -> words for the comment beside it."""

    tool: str
    entries: dict[str, Entry]
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def value(self, key: str, default: Any = None) -> Any:
        """What the file says under a key; an empty one counts as absent."""
        entry = self.entries.get(key)
        return default if entry is None or entry.value is None else entry.value

    def put(self, key: str, value: Any, origin: str) -> None:
        """Set a dotted key of the profile; `origin` names the other tool's key, or says why."""
        self.settings[key] = value
        self.origins[key] = origin

    def put_default(self, key: str, value: Any) -> None:
        """What the other tool does when its file says nothing."""
        if key not in self.settings:
            self.put(key, value, f"{self.tool}'s default")

    def note(self, kind: Kind, key: str, message: str) -> None:
        """Say what became of a key of the file."""
        entry = self.entries.get(key)
        self.notes.append(Note(kind, key, message, entry.where if entry else ""))


Rule = Callable[[Draft, Entry], None]
Rules = Mapping[str, Rule]


def to(key: str, convert: Callable[[Any], Any] = lambda value: value) -> Rule:
    """The same setting under another name; `convert` raises ValueError in words."""

    def rule(draft: Draft, entry: Entry) -> None:
        draft.put(key, convert(entry.value), entry.key)

    return rule


def needless(reason: str) -> Rule:
    """A setting that this program has no use for, with the reason."""
    return lambda draft, entry: draft.note("not needed", entry.key, reason)


def missing(reason: str) -> Rule:
    """A setting that would change the run and that is not carried over; harmless when it is off."""

    def rule(draft: Draft, entry: Entry) -> None:
        if is_off(entry.value):
            draft.note("not needed", entry.key, "off")
        else:
            draft.note("left out", entry.key, f"{shown(entry.value)}: {reason}")

    return rule


def elsewhere(draft: Draft, entry: Entry) -> None:
    """A setting that a rule for another key, or the dialect's last step, reads."""


def apply_rules(draft: Draft, rules: Rules) -> None:
    """Every entry through its rule; unknown keys and values that make no sense become notes."""
    for entry in draft.entries.values():
        rule = rules.get(entry.key, missing("this key is not known"))
        if entry.value is None:
            draft.note("not needed", entry.key, "empty")
        else:
            try:
                rule(draft, entry)
            except ValueError as error:
                draft.note("left out", entry.key, str(error))


def is_off(value: Any) -> bool:
    """Whether a switch of a YAML file is off, however it is written."""
    return value in (None, False, 0, "", "no", "none", "off", "false", "False", [], {})


def shown(value: Any) -> str:
    """A value as notes print it, short."""
    return sanitize(str(value), max_chars=80, single_line=True)


def integer(value: Any) -> int:
    """A whole number, also written as 3.0 or '3'. Raises ValueError in words."""
    number_ = number(value)
    if number_ != int(number_):
        raise ValueError(f"{shown(value)} is not a whole number")
    return int(number_)


def number(value: Any) -> float:
    """A number, also written as text. Raises ValueError in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{shown(value)} is not a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a number") from None


def switch(value: Any) -> bool:
    """true or false, also as text. Raises ValueError in words."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def names(value: Any) -> list[str]:
    """A list of names, also written as 'a,b'. Raises ValueError in words."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{shown(value)} is not a list of names")
    return [part.strip() for part in parts if part.strip()]


def one_of(value: Any, known: Mapping[str, str]) -> str:
    """What a word of the other tool is called here. Raises ValueError in words."""
    if str(value).lower() not in known:
        raise ValueError(f"{shown(value)}: not here; known are {', '.join(known)}")
    return known[str(value).lower()]
