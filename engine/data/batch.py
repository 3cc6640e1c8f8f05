"""Packed sequences as torch tensors: a map-style dataset and the function that makes batches.

What a step would otherwise have to read back from the device (where the trained tokens are, how many, which documents
have which role) is worked out here, on the host. Imported by the trainer and evaluator in the worker. Not here: any
decision about tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from engine.data.pack import Packed
from engine.data.tokens import IGNORED

Row = dict[str, Any]


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

    Tensors: `input_ids`, `labels`, `position_ids` int64 [B, S]; `cu_seq_lens` int32 [documents + 1], borders of the
    documents over the flattened B * S tokens, padding tails included; `trained` int64 [N], where in these B * S the
    tokens before the trained labels stand, and `targets` int64 [N], those labels; where documents are compared also
    `by_role` int64 [documents], their numbers sorted by role, and `reference` fp32 [documents].

    Host values, for which no step waits: `items` = N, `real_tokens` that are not padding, `max_doc_length`, the trained
    tokens and documents of each row (`row_trained`, `row_documents`), the length of each document (`document_lengths`),
    `roles` int32 [documents] as a numpy array.
    """
    lengths = np.concatenate([row["lengths"] for row in rows])
    borders = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
    ids, labels, positions = (
        np.stack([row[name] for row in rows]).astype(np.int64) for name in ("input_ids", "labels", "position_ids")
    )
    return _compared(rows) | {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "position_ids": torch.from_numpy(positions),
        "cu_seq_lens": torch.from_numpy(borders.astype(np.int32)),
        "max_doc_length": int(lengths.max()),
        "real_tokens": sum(row["input_ids"].size - row["padding"] for row in rows),
        "row_documents": [len(row["lengths"]) for row in rows],
        "document_lengths": lengths.tolist(),
        **_trained(labels),
    }


def _trained(labels: NDArray[np.int64]) -> dict[str, Any]:
    """A row's first label is no target: nothing stands before it."""
    row, before = np.nonzero(labels[:, 1:] != IGNORED)
    return {
        "trained": torch.from_numpy(row * labels.shape[1] + before),
        "targets": torch.from_numpy(labels[row, before + 1]),
        "items": len(row),
        "row_trained": np.bincount(row, minlength=len(labels)).tolist(),
    }


def _compared(rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "roles" in rows[0]:
        found["roles"] = np.concatenate([row["roles"] for row in rows])
        found["by_role"] = torch.from_numpy(np.argsort(found["roles"], kind="stable"))
    if "reference" in rows[0]:
        found["reference"] = torch.from_numpy(np.concatenate([row["reference"] for row in rows]))
    return found
