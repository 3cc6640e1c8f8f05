"""One document a row, padded to the longest of its batch: for models whose documents see each other in one row.

The documents come from packed sequences, so nothing is prepared anew. Documents of like length meet in a batch, and
the batch with the longest comes first: what it takes, no later one exceeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from engine.data.batch import PackedDataset, Row, collate
from engine.data.pack import Packed
from engine.data.tokens import IGNORED

STEP_TOKENS = 8
"""Rows are as long as the next multiple: products of other sizes are slower on a GPU."""
_SORTED_BATCHES = 50
"""Batches' worth of documents that are drawn at random and then sorted by length among themselves."""


class AloneDataset(PackedDataset):
    """The documents of a Packed by number, without their padding."""

    def __init__(self, packed: Packed) -> None:
        super().__init__(packed)
        pieces = [_pieces(number, packed) for number in range(len(packed))]
        self._where: NDArray[np.int64] = np.concatenate(pieces) if pieces else np.empty((0, 3), dtype=np.int64)

    @property
    def document_lengths(self) -> NDArray[np.int64]:
        """Tokens of each document."""
        return self._where[:, 2]

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Row:
        row, start, length = (int(value) for value in self._where[index])
        part = slice(start, start + length)
        return {
            "input_ids": self.packed.input_ids[row, part],
            "labels": self.packed.labels[row, part],
            "position_ids": np.arange(length),
            "lengths": np.array([length], dtype=np.int32),
            "padding": 0,
        }


def _pieces(number: int, packed: Packed) -> NDArray[np.int64]:
    """Row, start and length of each document in a sequence, but for its padding."""
    lengths = np.asarray(packed.lengths[number], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    kept = len(lengths) - (packed.padding[number] > 0)
    return np.stack([np.full(kept, number), starts[:kept], lengths[:kept]], axis=1)


def collate_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """A batch as `collate` makes it, each row padded to the longest; the padding is a document of its own.

    `alone` says that nothing stands before a row's document.
    """
    longest = _longest(rows)
    return collate([_padded(row, longest) for row in rows]) | {"alone": True}


def collate_masked(rows: Sequence[Row]) -> dict[str, Any]:
    """The same as one document a row, and an `attention_mask` [B, S] that leaves its padding out."""
    batch, longest = collate_rows(rows), _longest(rows)
    sizes = torch.tensor([int(row["lengths"].sum()) - row["padding"] for row in rows])
    return batch | {
        "attention_mask": (torch.arange(longest)[None] < sizes[:, None]).long(),
        "position_ids": torch.arange(longest).repeat(len(rows), 1),
        "cu_seq_lens": torch.arange(0, len(rows) * longest + 1, longest, dtype=torch.int32),
        "max_doc_length": longest,
        "row_documents": [1] * len(rows),
        "document_lengths": [longest] * len(rows),
    }


def _longest(rows: Sequence[Row]) -> int:
    return math.ceil(max(len(row["input_ids"]) for row in rows) / STEP_TOKENS) * STEP_TOKENS


def _padded(row: Row, length: int) -> Row:
    more = length - len(row["input_ids"])
    if not more:
        return row
    return row | {
        "input_ids": np.pad(row["input_ids"], (0, more)),
        "labels": np.pad(row["labels"], (0, more), constant_values=IGNORED),
        "position_ids": np.concatenate([row["position_ids"], np.arange(more)]),
        "lengths": np.append(row["lengths"], more).astype(np.int32),
        "padding": row["padding"] + more,
    }


class ByLength(Sampler[int]):
    """Rows in an order drawn anew each epoch, so that those of a batch are of like length."""

    def __init__(self, lengths: NDArray[np.int64], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The trainer says which epoch comes; the same one has the same order, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch))
        drawn = random.permutation(len(self._lengths))
        size = self._batch * _SORTED_BATCHES
        pieces = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        order = np.concatenate([piece[np.argsort(-self._lengths[piece], kind="stable")] for piece in pieces])
        whole = len(order) // self._batch
        batches, rest = order[: whole * self._batch].reshape(whole, self._batch), order[whole * self._batch :]
        batches = batches[random.permutation(whole)]
        yield from (int(number) for batch in _longest_first(batches, self._lengths) for number in batch)
        yield from (int(number) for number in rest)


def _longest_first(batches: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    found = list(batches)
    if found:
        found.insert(0, found.pop(int(lengths[batches].max(axis=1).argmax())))
    return found


Collate = Callable[[Sequence[Row]], dict[str, Any]]
