"""A profile in the making: settings with where each came from, and what could not be carried over.

Filled by the rules of a dialect (`llamafactory.py`, `axolotl.py`, `trl.py`), read to the last key by `closing.py`,
written by `write.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from engine.profile.foreign.yamltext import Entry
from engine.text import sanitize

T = TypeVar("T")
Kind = Literal["left out", "changed", "not needed"]
CARRIED = "carried"
MAX_LISTED_CHARS = 4000
NOBODY = "this key is not known"
_SECRET = re.compile(
    r"api_?key|secret|passw|credential|(hub|hf|face|auth|access|api|wandb|bearer)_?token|(^|\.)token$", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[a-z]_\w{16,})|(?<=://)[^/\s@]+(?=@)")
DEFAULT = "'s default"


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
    """`settings`: dotted key -> value; `origins`: dotted key -> words for the comment beside it.

    `told` is everything that the files say, by root; `became` says of each place in it what became of it. A place
    is a root or a path below it (`datasets.0.type`), and speaks for all below it unless it is `opened`. `files` are
    texts that go beside the profile, and `folders` are where relative paths may start.
    """

    tool: str
    entries: dict[str, Entry]
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    became: dict[str, str] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        self.told.update({key: entry.value for key, entry in self.entries.items()})

    def value(self, key: str, default: Any = None) -> Any:
        """What the file says under a key; an empty one counts as absent."""
        entry = self.entries.get(key)
        return default if entry is None or entry.value is None else entry.value

    def read(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        """The value as `convert` takes it; one that it does not take is listed and counts as absent."""
        value = self.value(key)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError as error:
            self.note("left out", key, str(error))
            return default

    def flag(self, key: str) -> bool:
        """Whether a switch is on; what is neither on nor off is listed and counts as off."""
        return self.read(key, switch, False)

    def put(self, key: str, value: Any, origin: str) -> None:
        """Set a dotted key of the profile; `origin` names the other tool's key, or says why.

        Where another key of the file had set it otherwise, that one gives way aloud.
        """
        before = self.origins.get(key, "")
        given = before != origin and before in self.entries and origin in self.entries
        if given and self.settings.get(key, value) != value:
            self.note("left out", before, f"{shown(self.value(before))}: {origin} says otherwise")
        self.settings[key] = value
        self.origins[key] = origin
        self.carry(origin)

    def put_default(self, key: str, value: Any) -> None:
        """What the other tool does when its file says nothing."""
        if key not in self.settings:
            self.put(key, value, f"{self.tool}{DEFAULT}")

    def carry(self, *places: str) -> None:
        """These places of the file are in the profile now, if they are in the file at all."""
        for place in places:
            if any(place == root or place.startswith(f"{root}.") for root in self.told):
                self.became.setdefault(place, CARRIED)

    def note(self, kind: Kind, key: str, message: str) -> None:
        """Say what became of a place of the file."""
        entry = self.entries.get(key) or self.entries.get(key.partition(".")[0])
        self.became[key] = kind
        note = Note(kind, key, message, entry.where if entry else "")
        if note not in self.notes:
            self.notes.append(note)


Rule = Callable[[Draft, Entry], None]
Rules = Mapping[str, Rule]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class To:
    """A rule: the same setting under another name; `convert` raises ValueError in words."""

    key: str
    convert: Callable[[Any], Any]

    def __call__(self, draft: Draft, entry: Entry) -> None:
        """Put the value into the draft."""
        draft.put(self.key, self.convert(entry.value), entry.key)


def to(key: str, convert: Callable[[Any], Any] = _same) -> To:
    """The same setting under another name; `convert` raises ValueError in words."""
    return To(key, convert)


def needless(reason: str) -> Rule:
    """A setting that this program has no use for, with the reason."""
    return lambda draft, entry: draft.note("not needed", entry.key, reason)


def missing(reason: str) -> Rule:
    """A setting that would change the run and that is not carried over; harmless when it is off."""

    def rule(draft: Draft, entry: Entry) -> None:
        if is_off(entry.value):
            draft.note("not needed", entry.key, "off")
        else:
            draft.note("left out", entry.key, f"{listed(entry.value, entry.key)}: {reason}")

    return rule


def unknown(draft: Draft, entry: Entry) -> None:
    """A key that nobody here knows: listed whatever its value, as `false` can change a run too."""
    draft.note("left out", entry.key, f"{listed(entry.value, entry.key)}: {NOBODY}")


def elsewhere(draft: Draft, entry: Entry) -> None:
    """A setting that a rule for another key, or the dialect's last step, reads."""


def apply_rules(draft: Draft, rules: Rules, null_matters: frozenset[str] = frozenset()) -> None:
    """Every entry through its rule; unknown keys and values that make no sense become notes.

    An empty value is as good as none, except for unknown keys and those whose rule knows what null means.
    """
    for entry in list(draft.entries.values()):
        rule = rules.get(entry.key, unknown)
        if entry.value is None and entry.key in rules and entry.key not in null_matters:
            draft.note("not needed", entry.key, "empty: as if it were not there")
        else:
            try:
                rule(draft, entry)
            except ValueError as error:
                draft.note("left out", entry.key, str(error))


def is_off(value: Any) -> bool:
    """Whether a switch of a YAML file is off, however it is written."""
    return value in (None, False, 0, "", [], {}) or str(value).lower() in ("no", "none", "off", "false", "null")


def shown(value: Any) -> str:
    """A value as notes print it, short and without what looks like a secret."""
    return sanitize(_SECRET_VALUE.sub("(a secret)", str(value)), max_chars=80, single_line=True)


def listed(value: Any, key: str = "") -> str:
    """A value with every key inside it: `a = 1, b.c = no`. A key that holds a secret is named without it."""
    if value and not isinstance(value, bool) and _SECRET.search(key):
        return "(a secret)"
    if not isinstance(value, (dict, list)) or not value:
        return "empty" if value is None else shown(value) or "empty text"
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return shown(value)
    words = ", ".join(f"{shown(place)} = {listed(item, place)}" for place, item in leaves(value).items())
    return sanitize(words, max_chars=MAX_LISTED_CHARS, single_line=True)


def leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Path -> plain value for everything inside; an empty table or list counts as a value."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[str, Any] = {}
        for name, item in items:
            found |= leaves(item, f"{place}.{name}" if place else str(name))
        return found
    return {place: value}


def integer(value: Any) -> int:
    """A whole number, also written as 3.0 or '3'. Raises ValueError in words."""
    number_ = number(value)
    if not math.isfinite(number_) or number_ != int(number_):
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


def text(value: Any) -> str:
    """A text or a number as text. Raises ValueError in words for the rest: YAML reads `yes` and `off` as switches."""
    if isinstance(value, (bool, dict, list)):
        raise ValueError(f"{listed(value)} is no text; write it in quotes if it is meant as one")
    return str(value)


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
