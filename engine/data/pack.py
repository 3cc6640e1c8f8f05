"""Documents into sequences of one fixed shape: packed best-fit, or one document a sequence.

Every sequence is `max_length` long, so that memory and speed do not depend on the data. Documents keep
apart through position ids that restart and through `cu_seq_lens`; a padding tail counts as a document
of its own. `batch.py` feeds the result to the trainer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.data.encode import Document
from engine.data.tokens import IGNORED, Ids

PADDING_ROLE = -1


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences ready to train on, n of them, each S tokens long.

    `input_ids` and `labels` are int32 [n, S]. Labels are aligned with the ids as transformers wants
    them (the token at t is predicted from t - 1); the first token of every document and all padding
    are -100. `lengths[i]` are the documents of sequence i, padding tail included, and sum to S;
    `padding` is the length of each tail (int32 [n]).
    """

    input_ids: Ids
    labels: Ids
    lengths: Sequence[Ids]
    padding: Ids
    roles: Sequence[Ids] = field(default=())
    """What each of `lengths` is to its loss (`preference.py`), padding tails -1; empty where all are learned alike."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def max_length(self) -> int:
        """S, in tokens."""
        return int(self.input_ids.shape[1])

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.input_ids.size - self.padding.sum())

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss sees."""
        return int((self.labels != IGNORED).sum())

    @property
    def efficiency(self) -> float:
        """Share of all positions that is not padding; 0 without sequences."""
        return self.real_tokens / self.input_ids.size if self.input_ids.size else 0.0

    @property
    def document_tokens(self) -> int:
        """Of a document in the sequence that has most of them, on average: memory goes by the worst batch."""
        counts = getattr(self.lengths, "counts", None)
        most = max(map(len, self.lengths), default=1) if counts is None else int(counts.max(initial=1))
        return self.max_length // max(1, most - 1)

    def position_ids(self, row: int) -> NDArray[np.int64]:
        """Positions of one sequence, int64 [S], from 0 in every document."""
        lengths = self.lengths[row]
        starts = np.cumsum(lengths) - lengths
        return np.arange(self.max_length) - np.repeat(starts, lengths)


def fit_document(document: Document, max_length: int, overlong: str, side: str = "right") -> Document | str:
    """The document within `max_length`, or the cause why it has to go. Tokens are cut off on `side`."""
    if len(document.ids) > max_length:
        if overlong == "drop":
            return "longer than max_length"
        kept = slice(max_length) if side == "right" else slice(-max_length, None)
        document = replace(document, ids=document.ids[kept], labels=document.labels[kept])
        if document.trained_tokens == 0:
            return "no answer left within max_length"
    return document if document.trained_tokens else "no trained token"


def split_document(document: Document, max_length: int) -> list[Document]:
    """A long text as documents of at most `max_length`, one after the other; nothing is lost."""
    starts = range(0, len(document.ids), max_length)
    return [
        replace(document, ids=document.ids[at : at + max_length], labels=document.labels[at : at + max_length])
        for at in starts
    ]


def pack(
    documents: Sequence[Document], max_length: int, pad_token_id: int, *, packing: bool, seed: int, together: int = 1
) -> Packed:
    """Shuffle by `seed` and put documents, none longer than `max_length`, into sequences.

    Each `together` documents in a row stay in one sequence, side by side. The same documents and seed give the
    same sequences. ValueError for what is too long.
    """
    units = [documents[at : at + together] for at in range(0, len(documents), together)]
    sizes = [sum(len(document.ids) for document in unit) for unit in units]
    if max(sizes, default=0) > max_length:
        raise ValueError("a document is longer than max_length")
    random = np.random.default_rng(seed)
    order = [int(index) for index in random.permutation(len(units))]
    if packing:
        bins = best_fit([sizes[index] for index in order], max_length)
        bins = [bins[int(index)] for index in random.permutation(len(bins))]
    else:
        bins = [[position] for position in range(len(order))]
    rows = [[document for position in one for document in units[order[position]]] for one in bins]
    return _fill(rows, max_length, pad_token_id)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: each item, longest first, into the fullest bin that still has room."""
    bins: list[list[int]] = []
    free: dict[int, list[int]] = {}
    spaces: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        place = bisect_left(spaces, lengths[item])
        if place == len(spaces):
            number, space = len(bins), capacity
            bins.append([])
        else:
            space = spaces[place]
            number = free[space].pop()
            if not free[space]:
                del free[space], spaces[place]
        bins[number].append(item)
        left = space - lengths[item]
        if left:
            if left not in free:
                insort(spaces, left)
            free.setdefault(left, []).append(number)
    return bins


def _fill(rows: Sequence[Sequence[Document]], max_length: int, pad_token_id: int) -> Packed:
    ids = np.full((len(rows), max_length), pad_token_id, dtype=np.int32)
    labels = np.full((len(rows), max_length), IGNORED, dtype=np.int32)
    lengths, padding = [], np.zeros(len(rows), dtype=np.int32)
    roles = [
        np.array([document.role for document in row] + [PADDING_ROLE] * (_size(row) < max_length), dtype=np.int32)
        for row in rows
    ]
    for number, documents in enumerate(rows):
        position = 0
        for document in documents:
            end = position + len(document.ids)
            ids[number, position:end] = document.ids
            labels[number, position:end] = document.labels
            labels[number, position] = IGNORED
            position = end
        padding[number] = max_length - position
        parts = [len(document.ids) for document in documents] + (
            [max_length - position] if position < max_length else []
        )
        lengths.append(np.array(parts, dtype=np.int32))
    judged = any(document.role for row in rows for document in row)
    return Packed(ids, labels, tuple(lengths), padding, tuple(roles) if judged else ())


def _size(row: Sequence[Document]) -> int:
    return sum(len(document.ids) for document in row)
