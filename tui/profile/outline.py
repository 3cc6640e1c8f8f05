"""The form's order: the settings most used, then sections that open and fold; and which of them are seen. No widgets.

What a row shows is in `view.py`, what was typed to find rows in `form_filter.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui.profile.form_filter import Filter, matches
from tui.profile.view import RowState, group_of

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec

MOST_USED = (
    "model.name_or_path",
    "data.datasets.0.path",
    "model.max_length",
    "quantization.method",
    "lora.r",
    "train.learning_rate",
    "train.num_train_epochs",
    "train.total_batch_size",
)
"""What nearly every shipped profile sets: these rows come first and never fold."""


@dataclass(frozen=True, slots=True)
class Section:
    """Settings under one heading; those most used have none."""

    title: str
    specs: tuple[FieldSpec, ...]


@dataclass(slots=True)
class Outline:
    """What of the form a person wants to see."""

    advanced: bool = False
    opened: set[str] = field(default_factory=set)
    """Titles of the sections that are open."""
    asked: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Seen:
    """What of one section is shown."""

    heading: bool
    keys: frozenset[str]
    open: bool
    words: str = ""
    """What the heading of an open section says."""


def sections_of(fields: Sequence[FieldSpec]) -> list[Section]:
    """The settings in the order of the form."""
    first = sorted((spec for spec in fields if _rank(spec) >= 0), key=_rank)
    groups: dict[str, list[FieldSpec]] = {}
    for spec in fields:
        if _rank(spec) < 0:
            groups.setdefault(group_of(spec), []).append(spec)
    return [Section("", tuple(first)), *(Section(title, tuple(specs)) for title, specs in groups.items())]


def _rank(spec: FieldSpec) -> int:
    """The place among those most used, -1 for the rest. Every data set's file is one of them."""
    parts = spec.key.split(".")
    if parts[:2] == ["data", "datasets"]:
        parts[2] = "0"
    key = ".".join(parts)
    return MOST_USED.index(key) if key in MOST_USED else -1


def seen(section: Section, outline: Outline, states: Mapping[str, RowState], given: set[str]) -> Seen:
    """Which rows of a section are shown: those that match, or those of an open section.

    `given`: keys that the profile sets: they are shown with the settings that are not advanced.
    """
    if outline.asked:
        keys = frozenset(spec.key for spec in section.specs if matches(spec, states[spec.key], outline.asked))
        return Seen(bool(keys and section.title), keys, bool(keys), f"{len(keys)} of {len(section.specs)}")
    is_open = not section.title or section.title in outline.opened
    if not is_open:
        return Seen(True, frozenset(), False)
    shown = (spec for spec in section.specs if outline.advanced or not spec.advanced or spec.key in given)
    keys = frozenset(spec.key for spec in shown)
    hidden = len(section.specs) - len(keys)
    return Seen(bool(section.title), keys, True, f"{hidden} advanced: v shows them" if hidden else "")
