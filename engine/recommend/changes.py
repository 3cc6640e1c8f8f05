"""Settings changed together, in words and as values: what fits beside a plan, and what lets a failed run go on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One or several changes at once. `parts`: each in words; `values`: what they set, by name."""

    parts: tuple[str, ...]
    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        """All of it in words."""
        return " and ".join(self.parts)


def single(words: str, values: Mapping[str, Any]) -> Change:
    """A change of one thing."""
    return Change((words,), values)


def together(changes: Sequence[Change], count: int, once: Collection[str] | None = None) -> Iterator[Change]:
    """Every `count` of the changes at once, but those that set a name of `once` twice (None: any name)."""
    for group in combinations(changes, count):
        names = [name for change in group for name in change.values if once is None or name in once]
        if len(names) == len(set(names)):
            values = {name: value for change in group for name, value in change.values.items()}
            yield Change(tuple(part for change in group for part in change.parts), values)
