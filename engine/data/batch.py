"""Packed sequences as torch tensors: a map-style dataset and the function that makes batches.

Imported by the trainer and evaluator in the worker. Not here: any decision about tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from engine.data.pack import Packed

Row = dict[str, Any]


_PER_DOCUMENT = ("roles", "reference")


class PackedDataset(Dataset[Row]):
    """Rows of a Packed by number; each is a dict that `collate` joins."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.reference: list[Any] | None = None
        """Log-probability of each document of a row under the base, where an objective compares with it."""

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> Row:
        packed = self.packed
        row: Row = {} if not packed.roles else {"roles": packed.roles[index]}
        if self.reference is not None:
            row["reference"] = self.reference[index]
        return row | {
            "input_ids": packed.input_ids[index],
            "labels": packed.labels[index],
            "position_ids": packed.position_ids(index),
            "lengths": packed.lengths[index],
            "padding": int(packed.padding[index]),
        }


def collate(rows: Sequence[Row]) -> dict[str, Any]:
    """One batch of B sequences of S tokens.

    `input_ids`, `labels`, `position_ids`: int64 [B, S]. `cu_seq_lens`: int32 [documents + 1], borders
    of the documents over the flattened B * S tokens, padding tails included. `max_doc_length`: the
    longest document. `real_tokens`: tokens that are not padding; take it out before the model sees
    the batch. Where documents are compared also `roles` and `reference` [documents].
    """
    lengths = np.concatenate([row["lengths"] for row in rows])
    borders = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([row[name] for row in rows]).astype(np.int64))

    compared = {
        name: torch.from_numpy(np.concatenate([row[name] for row in rows])) for name in _PER_DOCUMENT if name in rows[0]
    }
    return compared | {
        "input_ids": stacked("input_ids"),
        "labels": stacked("labels"),
        "position_ids": stacked("position_ids"),
        "cu_seq_lens": torch.from_numpy(borders.astype(np.int32)),
        "max_doc_length": int(lengths.max()),
        "real_tokens": sum(row["input_ids"].size - row["padding"] for row in rows),
    }
