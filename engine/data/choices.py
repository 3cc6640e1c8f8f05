"""What data become at other lengths than the profile's: rows cut and dropped, tokens lost, sequences packed. As values.

Counted by `lengths.py` in the worker; read here by whoever shows them. Light: neither numpy nor pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class AtLength:
    """What training would get with this `max_length`."""

    max_length: int
    rows: int
    """That are trained on or held out, cut ones among them."""
    rows_cut: int
    rows_dropped: int
    """For their length alone."""
    tokens_lost: int
    """Of cut and dropped rows."""
    sequences: int
    """To train on, each `max_length` tokens long."""
    tokens: int
    """Of them, without padding."""

    @property
    def tokens_padded(self) -> int:
        """Positions of the sequences that nothing stands on."""
        return self.sequences * self.max_length - self.tokens

    @property
    def filled(self) -> float:
        """Share of the positions that is not padding."""
        return self.tokens / (self.sequences * self.max_length) if self.sequences else 0.0


@dataclass(frozen=True, slots=True)
class LengthChoices:
    """Documents by length, and what each of several lengths would do; the profile's own is among them."""

    max_length: int
    longest: int
    """From which on nothing is cut or dropped for its length."""
    tokens: int
    """Of all documents that something can be learned from, cut nowhere."""
    packing: bool
    histogram: tuple[tuple[int, int], ...]
    """Upper bound in tokens, documents up to it and above the bound before."""
    at: tuple[AtLength, ...]
    """From the shortest length to the longest."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def index_of(self, max_length: int) -> int:
        """The place in `at` of the length that is nearest to this one."""
        return min(range(len(self.at)), key=lambda place: abs(self.at[place].max_length - max_length))


def choices_of(value: Any) -> LengthChoices | None:
    """What `to_dict` made; None for what another version wrote."""
    names = [field.name for field in fields(AtLength)]
    try:
        at = tuple(AtLength(*(int(one[name]) for name in names)) for one in value["at"])
        histogram = tuple((int(bound), int(count)) for bound, count in value["histogram"])
        own = (int(value["max_length"]), int(value["longest"]), int(value["tokens"]), bool(value["packing"]))
    except (KeyError, TypeError, ValueError):
        return None
    return LengthChoices(*own, histogram, at) if at and histogram and isinstance(value, Mapping) else None
