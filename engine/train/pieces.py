"""Micro-batches in smaller pieces after memory ran out: the same rows, the same gradient, less at once.

The loss of a piece is divided by the trained tokens of the whole accumulated batch, so that pieces add up to
exactly what the micro-batch would have given. Used by the trainer. Not here: whether there is a way on
(`remedies.py`).
"""

from __future__ import annotations

import gc
import math
import traceback

import torch

from engine.modeling.forward import Batch

_PER_ROW = ("input_ids", "labels", "position_ids")
_PER_DOCUMENT = ("roles", "reference")


class Pieces:
    """How many pieces a micro-batch is cut into; doubles each time memory runs out."""

    def __init__(self) -> None:
        self.count = 1

    def of(self, batch: Batch) -> list[Batch]:
        """`batch` by rows, in at most `count` pieces."""
        rows = len(batch["input_ids"])
        if self.count == 1 or rows == 1:
            return [batch]
        size = math.ceil(rows / self.count)
        return [piece(batch, start, min(start + size, rows)) for start in range(0, rows, size)]

    def rows_of(self, batch: Batch) -> int:
        """Rows of the largest piece."""
        return math.ceil(len(batch["input_ids"]) / self.count)

    def halve(self) -> None:
        """Cut into twice as many from now on."""
        self.count *= 2


def piece(batch: Batch, start: int, end: int) -> Batch:
    """Rows `start` to `end` of a packed batch; document borders are counted from the piece's first token."""
    length = batch["input_ids"].shape[1]
    borders = batch["cu_seq_lens"]
    inside = borders[(borders >= start * length) & (borders <= end * length)] - start * length
    documents = (borders[:-1] >= start * length) & (borders[:-1] < end * length)
    parts = {name: batch[name][start:end] for name in _PER_ROW}
    parts |= {name: batch[name][documents] for name in _PER_DOCUMENT if name in batch}
    return {**batch, **parts, "cu_seq_lens": inside}


def release(error: BaseException) -> None:
    """Let go of what the failed step's frames still hold, and of the allocator's free blocks."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
