"""Messages whose keys and speakers have names of their own, put into the words that `turns.py` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.data.structured import holds, is_absent
from engine.data.unread import RowNotes

if TYPE_CHECKING:
    from engine.profile.schema import Dataset

SPOKEN = ("messages", "prompt", "instruction", "completion", "output", "chosen", "rejected", "history")
"""Roles of columns that may hold messages."""
_USUAL = {"role": ("role", "from"), "content": ("content", "value")}
_ROLES = {"call": "function_call"}


@dataclass(frozen=True, slots=True)
class OwnWords:
    """`keys`: the usual key -> the rows' own; `speakers`: the rows' word for who speaks -> the role."""

    keys: Mapping[str, str]
    speakers: Mapping[str, str]


def own_words(dataset: Dataset) -> OwnWords | None:
    """What the rows of a data set call the parts of a message and who speaks; None where nothing was named."""
    if not dataset.message_keys and not dataset.speakers:
        return None
    return OwnWords(dataset.message_keys, dataset.speakers)


def are_meant(text: str, words: OwnWords) -> bool:
    """Whether a text is meant as messages: it begins as a list or an object and names the own keys."""
    named = [words.keys[name] for name in _USUAL if name in words.keys]
    return bool(named) and text.lstrip()[:1] in ("[", "{") and all(key in text for key in named)


def in_usual_words(value: Any, words: OwnWords, notes: RowNotes) -> Any:
    """Messages with the usual keys and roles; anything else as it is."""
    if isinstance(value, list):
        return [in_usual_words(item, words, notes) if isinstance(item, dict) else item for item in value]
    return _message(value, words, notes) if isinstance(value, dict) else value


def _message(item: Mapping[str, Any], words: OwnWords, notes: RowNotes) -> dict[str, Any]:
    named = {ours: item[theirs] for ours, theirs in words.keys.items() if not is_absent(item.get(theirs))}
    taken = {words.keys[ours] for ours in named}
    hidden = {usual for ours in named for usual in _USUAL.get(ours, (ours,))} - taken
    notes.leave("message key", (key for key in hidden if holds(item.get(key))))
    found = {key: value for key, value in item.items() if key not in taken | hidden} | named
    key = "role" if not is_absent(found.get("role")) else "from"
    role = words.speakers.get(str(found.get(key)))
    return found if role is None else found | {key: _ROLES.get(role, role)}
