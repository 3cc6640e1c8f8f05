"""What became of the data: every row read is kept, cut or dropped, and each drop has a cause.

Filled by `prepare.py`; stored with a run, printed by `engine data check`, shown by the deck.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine.data.unread import Unread

FIRST_ROWS = 5
PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows left out for one cause, with the first of them."""

    cause: str
    rows: int
    first_rows: tuple[int, ...]
    detail: str = ""
    """Of the first row."""


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """One file. rows_read = kept + the sum of dropped; cut rows are among the kept."""

    path: str
    format: str
    why: str
    rows_read: int
    kept: int
    cut: int
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()
    """Columns and message keys that hold something and nobody reads; those that matter first."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Documents by length in tokens, before anything is cut. `histogram`: (upper bound, documents)."""

    percentiles: dict[str, int]
    histogram: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SetReport:
    """One packed set. Tokens count without padding; trained tokens are those the loss sees."""

    rows: int
    documents: int
    sequences: int
    tokens: int
    trained_tokens: int
    packing_efficiency: float


@dataclass(frozen=True, slots=True)
class DataReport:
    """Everything that a person should know about the data of a run."""

    datasets: tuple[DatasetReport, ...]
    train: SetReport
    validation: SetReport | None
    validation_source: str
    duplicates: int
    max_length: int
    lengths: Lengths
    template: str
    template_why: str
    ends: tuple[str, ...]
    """Tokens that end an answer."""
    seconds: float
    warnings: tuple[str, ...] = ()
    from_cache: bool = False
    """Whether an earlier preparation of the same rows and settings was used."""
    written_rows: int = 0
    """Rows that were written with a chat template already."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Cause:
    rows: int = 0
    first_rows: list[int] = field(default_factory=list)
    detail: str = ""


@dataclass(slots=True)
class Ledger:
    """Counts what happens to the rows of one data set while it is prepared."""

    kept: int = 0
    cut: int = 0
    causes: dict[str, _Cause] = field(default_factory=dict)

    def drop(self, row: int, cause: str, detail: str = "") -> None:
        """Note that a row is left out."""
        noted = self.causes.setdefault(cause, _Cause(detail=detail))
        noted.rows += 1
        noted.first_rows = sorted([*noted.first_rows, row])[:FIRST_ROWS]

    def dropped(self) -> tuple[Dropped, ...]:
        """Causes, most frequent first."""
        causes = sorted(self.causes.items(), key=lambda item: -item[1].rows)
        return tuple(Dropped(name, cause.rows, tuple(cause.first_rows), cause.detail) for name, cause in causes)


def summarise_lengths(lengths: Counter[int]) -> Lengths:
    """Percentiles and a histogram over powers of two, from how many documents have each length."""
    if not lengths:
        return Lengths({}, ())
    values = np.array(sorted(lengths))
    up_to = np.cumsum([lengths[int(value)] for value in values])
    places = [int(np.ceil(rank / 100 * (up_to[-1] - 1))) for rank in PERCENTILES]
    found = values[np.searchsorted(up_to, places, side="right")]
    percentiles = {f"p{rank}": int(value) for rank, value in zip(PERCENTILES, found, strict=True)}
    buckets: Counter[int] = Counter()
    for length, count in lengths.items():
        buckets[max(16, 1 << (length - 1).bit_length())] += count
    return Lengths(percentiles, tuple(sorted(buckets.items())))
