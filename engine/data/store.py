"""Packed sequences in files: written part by part, read through memory maps.

What a run keeps in memory are the borders of the documents (8 bytes each), not their tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from engine.data.pack import Packed

_WIDE, _FLAT = ("input_ids", "labels"), ("lengths", "roles")
_PARTS = (*_WIDE, *_FLAT, "counts", "padding")


class Ragged(Sequence[NDArray[np.int32]]):
    """Arrays of different lengths, one behind the other: `values` and the `borders` between them [n + 1]."""

    def __init__(self, values: NDArray[np.int32], borders: NDArray[np.int64]) -> None:
        self.values, self.borders = values, borders

    @property
    def counts(self) -> NDArray[np.int64]:
        """Lengths of the arrays."""
        return np.diff(self.borders)

    def __len__(self) -> int:
        return len(self.borders) - 1

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int32]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.int32]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.int32] | list[NDArray[np.int32]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self.values[self.borders[index] : self.borders[index + 1]]


class PackedWriter:
    """Appends packed sequences to the files of one side (`name`) in `folder`. Close it; then `open_packed`."""

    def __init__(self, folder: Path, name: str, max_length: int) -> None:
        self.folder, self.name, self.max_length = folder, name, max_length
        self.sequences = self.tokens = self.trained_tokens = 0
        self._files: dict[str, IO[bytes]] = {part: (folder / f"{name}.{part}").open("wb") for part in _PARTS}

    def add(self, packed: Packed) -> None:
        """Append sequences of `max_length` tokens."""
        self.sequences += len(packed)
        self.tokens += packed.real_tokens
        self.trained_tokens += packed.trained_tokens
        arrays: dict[str, Any] = {
            "input_ids": packed.input_ids,
            "labels": packed.labels,
            "lengths": np.concatenate(packed.lengths) if len(packed) else [],
            "roles": np.concatenate(packed.roles) if packed.roles else [],
            "counts": [len(lengths) for lengths in packed.lengths],
            "padding": packed.padding,
        }
        for part, array in arrays.items():
            self._files[part].write(np.asarray(array, dtype="<i4").tobytes())

    def close(self) -> None:
        """Finish the files."""
        for file in self._files.values():
            file.close()
        head = {"sequences": self.sequences, "max_length": self.max_length}
        (self.folder / f"{self.name}.json").write_text(json.dumps(head))


def open_packed(folder: Path, name: str) -> Packed | None:
    """The sequences of one side, tokens mapped; None without any. ValueError for files that do not fit together."""
    head = json.loads((folder / f"{name}.json").read_text())
    sequences, max_length = int(head["sequences"]), int(head["max_length"])
    if not sequences:
        return None
    shape = (sequences, max_length)
    wide = {part: np.memmap(folder / f"{name}.{part}", dtype="<i4", mode="r", shape=shape) for part in _WIDE}
    lengths, roles, counts, padding = (np.fromfile(folder / f"{name}.{part}", dtype="<i4") for part in _PARTS[2:])
    borders = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    if len(counts) != sequences or len(padding) != sequences or borders[-1] != len(lengths):
        raise ValueError(f"{name}: its files do not fit together")
    judged = Ragged(roles, borders) if len(roles) else ()
    return Packed(wide["input_ids"], wide["labels"], Ragged(lengths, borders), padding, judged)
