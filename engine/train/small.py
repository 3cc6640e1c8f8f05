"""A few short documents of a packed row: enough to compare two ways of computing the same, in little memory.

Used where a faster path is held against the plain one. Not here: the comparing (`acceleration.py`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from engine.data.batch import Row
from engine.data.tokens import IGNORED

DOCUMENT_TOKENS, DOCUMENTS = 256, 4
"""An even number of documents: answers that are compared stand side by side."""


def small_row(row: Row) -> Row:
    """The first documents of a row, each cut to the tokens around its first trained one; without padding."""
    borders = np.cumsum([0, *row["lengths"]])
    documents = min(DOCUMENTS, len(row["lengths"]) - (row["padding"] > 0))
    cuts = [_cut(row["labels"], int(start), int(end)) for start, end in pairwise(borders[: documents + 1])]
    lengths = np.array([cut.stop - cut.start for cut in cuts], dtype=np.int32)
    labels = np.concatenate([row["labels"][cut] for cut in cuts])
    labels[np.cumsum(lengths) - lengths] = IGNORED
    kept: dict[str, Any] = {name: row[name][:documents] for name in ("roles", "reference") if name in row}
    return kept | {
        "input_ids": np.concatenate([row["input_ids"][cut] for cut in cuts]),
        "labels": labels,
        "position_ids": np.concatenate([np.arange(length) for length in lengths]),
        "lengths": lengths,
        "padding": 0,
    }


def _cut(labels: Any, start: int, end: int) -> slice:
    trained = np.flatnonzero(labels[start + 1 : end] != IGNORED)
    first = start + 1 + int(trained[0]) if len(trained) else start
    return slice(max(start, first - DOCUMENT_TOKENS // 2), min(end, first + DOCUMENT_TOKENS // 2))
