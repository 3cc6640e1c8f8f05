"""A table inside another tool's file, such as a data set's entry: read key by key, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.profile.foreign.draft import Draft, Kind, is_off, listed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """`values` at a `place` of the file. What is taken counts as carried over; what nobody takes is listed."""

    draft: Draft
    place: str
    values: dict[str, Any]

    def __post_init__(self) -> None:
        self.draft.opened.add(self.place)

    def look(self, name: str, default: Any = None) -> Any:
        """The value, which is not taken by that; an empty one counts as absent."""
        value = self.values.get(name)
        return default if value is None else value

    def take(self, name: str, default: Any = None) -> Any:
        """The value, which the caller puts into the profile."""
        if name in self.values:
            self.draft.carry(f"{self.place}.{name}")
        return self.look(name, default)

    def read(self, name: str, convert: Callable[[Any], T], default: T) -> T:
        """The value as `convert` takes it, taken; one that it does not take is listed and counts as absent."""
        value = self.take(name)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError as error:
            self.note("left out", name, str(error))
            return default

    def note(self, kind: Kind, name: str, message: str) -> None:
        """Say what became of a key of this table, if it is there."""
        if name in self.values:
            self.draft.note(kind, f"{self.place}.{name}", message)

    def needless(self, name: str, reason: str) -> None:
        """A key that changes nothing here, with the reason."""
        self.note("not needed", name, f"{listed(self.values.get(name), name)}: {reason}")

    def lose(self, name: str, reason: str) -> None:
        """A key that is not carried over; harmless when it is off."""
        value = self.values.get(name)
        if is_off(value):
            self.needless(name, "off")
        else:
            self.note("left out", name, f"{listed(value, name)}: {reason}")

    def only(self, name: str, allowed: tuple[Any, ...], reason: str) -> None:
        """A key with few values that mean what is done here anyway; any other is not carried over."""
        value = self.values.get(name)
        kind: Kind = "not needed" if value is None or value in allowed else "left out"
        self.note(kind, name, f"{listed(value, name)}: {reason}")

    def inner(self, name: str) -> Told | None:
        """The table under a key, or None where it is no table."""
        value = self.values.get(name)
        return Told(self.draft, f"{self.place}.{name}", value) if isinstance(value, dict) and value else None

    def empty_ones(self, known: Iterable[str]) -> None:
        """Keys of this tool without a value say nothing."""
        for name in known:
            if name in self.values and self.values[name] is None:
                self.needless(name, "as if it were not there")

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)
