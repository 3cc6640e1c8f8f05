"""What each length would do to documents that were tokenized once: exactly what preparing them anew would.

`DocumentWriter` keeps a few numbers of every document, beside its tokens; `length_choices` counts by them. The rules
are those of `accounts.fit` and `pack.pack`; a test holds both against each other. Not here: the values (`choices.py`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.data.choices import AtLength, LengthChoices
from engine.data.encode import Document
from engine.data.preference import NEEDED
from engine.data.tokens import IGNORED
from engine.profile.schema import Profile

DOCUMENTS = "documents.i4"
CHUNK, SIDE, ROW, LENGTH, FIRST, LAST, SPLITS, TIMES = range(8)
"""Columns: chunk, 0 = train and 1 = held out, row, tokens, first trained one, one past the last trained one, whether a
long text goes on in the next sequence, how often an epoch repeats it."""
Numbers = NDArray[np.int32]
Flags = NDArray[np.bool_]
_SHORTEST = 16
_STEPS = ((4, 8), (16, 4))
"""Chunks up to which an octave of lengths has so many steps; more chunks take longer to count."""
_FEWEST_STEPS = 2


class DocumentWriter:
    """Appends the numbers of documents to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, documents: Sequence[Document], facts: Sequence[tuple[int, int, int, int, int]]) -> None:
        """`facts` of each: chunk, side, row, whether it may be split, how often it is repeated."""
        found = np.zeros((len(documents), 8), dtype="<i4")
        for place, (document, (chunk, side, row, splits, times)) in enumerate(zip(documents, facts, strict=True)):
            trained = np.flatnonzero(document.labels != IGNORED)
            first, last = (trained[0], trained[-1] + 1) if len(trained) else (-1, 0)
            found[place] = (chunk, side, row, len(document.ids), first, last, splits, times)
        self._file.write(found.tobytes())


def read_documents(folder: Path) -> Numbers:
    """What was written. ValueError for a file that is not whole."""
    # Mapped, not read: of those who open a preparation, only the data check looks at them.
    found: Numbers = np.memmap(folder / DOCUMENTS, dtype="<i4", mode="r").reshape(-1, 8)
    return found


def length_choices(documents: Numbers, settings: Profile) -> LengthChoices:
    """What the lengths of a grid, the profile's own and the longest document's would do."""
    now, longest = int(settings.model.max_length), _longest(documents, settings)
    grid = _grid(documents, max(now, longest))
    counts = np.histogram(documents[:, LENGTH], bins=[0, *(bound + 1 for bound in grid)])[0]
    return LengthChoices(
        max_length=now,
        longest=longest,
        tokens=int(documents[(documents[:, FIRST] >= 0) | (documents[:, SPLITS] != 0), LENGTH].sum()),
        packing=bool(settings.data.packing),
        histogram=tuple((bound, int(count)) for bound, count in zip(grid, counts, strict=True)),
        at=tuple(at_length(documents, settings, limit) for limit in sorted({*grid, now, longest})),
    )


def _longest(documents: Numbers, settings: Profile) -> int:
    """The length at which nothing is cut: that of the longest document, or of the longest two that share a sequence."""
    length = documents[:, LENGTH]
    return int((length.reshape(-1, 2).sum(axis=1) if settings.train.objective in NEEDED else length).max())


def _grid(documents: Numbers, most: int) -> list[int]:
    """Steps of octaves, from the shortest document to `most` or past it."""
    chunks = int(documents[:, CHUNK].max()) + 1
    steps = next((steps for most, steps in _STEPS if chunks <= most), _FEWEST_STEPS)
    low = max(_SHORTEST, int(documents[:, LENGTH].min())).bit_length() - 1
    high = max(most, 2 << low)
    octaves = range(low, (high - 1).bit_length())
    grid = [(1 << octave) * (steps + step) // steps for octave in octaves for step in range(steps)]
    return [*grid, 1 << (high - 1).bit_length()]


def at_length(documents: Numbers, settings: Profile, limit: int) -> AtLength:
    """What `limit` would do."""
    length, row, split = documents[:, LENGTH], documents[:, ROW], documents[:, SPLITS] != 0
    pairs = settings.train.objective in NEEDED
    possible = _kept(documents, np.maximum(length, limit), settings, pairs)
    room = _rooms(length, limit) if pairs else np.full_like(length, limit)
    split = split & (length > limit)
    kept = _kept(documents, room, settings, pairs) | split
    size = np.where(split, length, np.minimum(length, room))
    rows = int(row.max()) + 1
    whole = _rows_with(row, kept, rows)
    cut = _rows_with(row, kept & ~split & (length > room), rows)
    train = kept & (documents[:, SIDE] == 0)
    times = documents[:, TIMES]
    return AtLength(
        max_length=limit,
        rows=int(whole.sum()),
        rows_cut=int((cut & whole).sum()),
        rows_dropped=int((_rows_with(row, possible, rows) & ~whole).sum()),
        tokens_lost=int(length[possible | split].sum() - size[kept].sum()),
        sequences=_sequences(documents[train], size[train], settings, limit, pairs),
        tokens=int((size * times)[train].sum()),
    )


def _rows_with(row: Numbers, marked: Flags, rows: int) -> Flags:
    found = np.zeros(rows, dtype=bool)
    found[row[marked]] = True
    return found


def _kept(documents: Numbers, room: Numbers, settings: Profile, pairs: bool) -> Flags:
    """Documents that something to learn is left of within `room`; of a pair both or none."""
    length, first, last = documents[:, LENGTH], documents[:, FIRST], documents[:, LAST]
    inside = first < room if settings.model.truncation_side == "right" else last > length - room
    kept = (first >= 0) & ((length <= room) | (inside & (settings.data.overlong != "drop")))
    return np.repeat(kept.reshape(-1, 2).all(axis=1), 2) if pairs else kept


def _rooms(length: Numbers, limit: int) -> Numbers:
    """Of two neighbors the shorter one gets up to half, the other one the rest."""
    pair = length.reshape(-1, 2)
    shorter = np.minimum(pair.min(axis=1), limit // 2)[:, None]
    rooms = np.where(pair > shorter, limit - shorter, shorter)
    halves = (pair[:, 0] == pair[:, 1]) | (pair.min(axis=1) > limit // 2)
    rooms[halves] = limit // 2
    found: Numbers = rooms.reshape(-1).astype(np.int32)
    return found


def _sequences(documents: Numbers, size: Numbers, settings: Profile, limit: int, pairs: bool) -> int:
    """Sequences that documents of this size fill."""
    if pairs:
        documents, size = documents[::2], size.reshape(-1, 2).sum(axis=1)
    size, chunk = np.repeat(size, documents[:, TIMES]), np.repeat(documents[:, CHUNK], documents[:, TIMES])
    full, rest = size // limit, size % limit
    if not settings.data.packing:
        return int((full + (rest > 0)).sum())
    left = rest > 0
    numbers = np.unique(chunk[left])
    return int(full.sum()) + sum(count_bins(rest[left & (chunk == number)], limit) for number in numbers)


def count_bins(sizes: Numbers, capacity: int) -> int:
    """How many sequences `pack.best_fit` makes of documents of these sizes: documents of one size go together."""
    free: dict[int, int] = {}
    spaces: list[int] = []
    bins = 0

    def leave(space: int, count: int) -> None:
        if space and count:
            if space not in free:
                insort(spaces, space)
            free[space] = free.get(space, 0) + count

    values, counts = np.unique(sizes, return_counts=True)
    for size, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while count:
            place = bisect_left(spaces, size)
            fresh = place == len(spaces)
            space = capacity if fresh else spaces[place]
            each = space // size
            full = count // each if fresh else min(free[space], count // each)
            rest = count - full * each if fresh or full < free[space] else 0
            used = full + (rest > 0)
            if fresh:
                bins += used
            else:
                free[space] -= used
                if not free[space]:
                    del free[space], spaces[place]
            leave(space - each * size, full)
            leave(space - rest * size, int(rest > 0))
            count -= full * each + rest
    return bins
