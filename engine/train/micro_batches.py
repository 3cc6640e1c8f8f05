"""Micro-batches in smaller parts after memory ran out: the same rows, the same gradient, less at once.

The loss of a part is divided by the trained tokens of the whole accumulated batch, so that parts add up to exactly
what the micro-batch would have given. Not here: what to change when no part is small enough
(`engine.measure.out_of_memory`).
"""

from __future__ import annotations

import gc
import math
import traceback

import numpy as np
import torch

from engine.modeling.forward import Batch

_PER_ROW = ("input_ids", "labels", "position_ids", "attention_mask")


class MicroBatches:
    """How many parts a micro-batch is cut into; doubles each time memory runs out."""

    def __init__(self) -> None:
        self.parts = 1

    def of(self, batch: Batch) -> list[Batch]:
        """`batch` by rows, in at most `parts` parts."""
        rows = len(batch["input_ids"])
        if self.parts == 1 or rows == 1:
            return [batch]
        size = math.ceil(rows / self.parts)
        return [rows_between(batch, start, min(start + size, rows)) for start in range(0, rows, size)]

    def rows_of(self, batch: Batch) -> int:
        """Rows of the largest part."""
        return math.ceil(len(batch["input_ids"]) / self.parts)

    def halve(self) -> None:
        """Cut into twice as many from now on."""
        self.parts *= 2


def rows_between(batch: Batch, start: int, end: int) -> Batch:
    """Rows `start` to `end` of a packed batch as `collate` makes it; positions count from the part's first token.

    Only host values decide where to cut, so that the device is not waited for.
    """
    length = batch["input_ids"].shape[1]
    first, last = (sum(batch["row_documents"][:row]) for row in (start, end))
    learned = slice(*(sum(batch["row_trained"][:row]) for row in (start, end)))
    parts = {name: batch[name][start:end] for name in _PER_ROW if name in batch} | {
        "cu_seq_lens": batch["cu_seq_lens"][first : last + 1] - start * length,
        "trained": batch["trained"][learned] - start * length,
        "targets": batch["targets"][learned],
        "items": learned.stop - learned.start,
        "row_documents": batch["row_documents"][start:end],
        "row_trained": batch["row_trained"][start:end],
    }
    if "document_lengths" in batch:
        parts["document_lengths"] = batch["document_lengths"][first:last]
    if "roles" in batch:
        parts["roles"] = batch["roles"][first:last]
        parts["by_role"] = _of_documents(batch, first, last)
    if "reference" in batch:
        parts["reference"] = batch["reference"][first:last]
    return {**batch, **parts}


def _of_documents(batch: Batch, first: int, last: int) -> torch.Tensor:
    """`by_role` of the documents `first` to `last`, numbered anew: those of one role stand side by side in it."""
    roles, inside = batch["roles"], batch["roles"][first:last]
    kinds = np.unique(inside)
    starts = [int((roles < kind).sum() + (roles[:first] == kind).sum()) for kind in kinds]
    ends = [start + int((inside == kind).sum()) for start, kind in zip(starts, kinds, strict=True)]
    return torch.cat([batch["by_role"][start:end] for start, end in zip(starts, ends, strict=True)]) - first


def release(error: BaseException) -> None:
    """Let go of what the failed step's frames still hold, and of the allocator's free blocks."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
