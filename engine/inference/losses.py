"""Negative log likelihood of every held-out answer, without full logits in memory.

The mask is training's: each conversation is scored over the tokens that training would have learnt from.
Conversations of like length are padded together; hidden states of trained positions alone go through the output head,
a bounded number at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from engine.modeling.adapters import base_of
from engine.modeling.loss import IGNORE, shifted, softcap_of
from engine.runs.job import Warn

CHUNK_BYTES = 256 * 1024 * 1024
"""fp32 logits alive at once."""
BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}
"""Padded tokens of one forward pass: enough to keep the device busy, little beside the model."""
CHECK_TOKENS = 64
TOLERANCE_FP32, TOLERANCE_16BIT = 1e-3, 3e-2

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation, and its labels: the id where it is trained, -100 elsewhere."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RowLoss:
    """Summed negative log likelihood in nats over `tokens` trained tokens of one row."""

    nll: float
    tokens: int


@torch.inference_mode()
def score(model: Any, rows: Sequence[Encoded], pad_id: int, on_progress: OnProgress, warn: Warn) -> list[RowLoss]:
    """One RowLoss a row, in the order given. A row without trained tokens scores 0 over 0 tokens."""
    found: list[RowLoss] = [RowLoss(0.0, 0)] * len(rows)
    if not rows:
        return found
    device = base_of(model).device
    whole = not _head_is_a_product(model, _tensors([min(rows, key=lambda row: len(row.ids))], pad_id, device), warn)
    budget = 0 if whole else BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])
    done = 0
    for positions in batches([len(row.ids) for row in rows], budget):
        batch = _tensors([rows[position] for position in positions], pad_id, device)
        losses = _from_logits(model, batch) if whole else _from_hidden(model, batch)
        for position, loss in zip(positions, losses, strict=True):
            found[position] = loss
        done += len(positions)
        on_progress(done, len(rows))
    return found


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions grouped by like length, each group padded within `budget` tokens (one row at least)."""
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if group and lengths[group[0]] * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(position)
    if group:
        yield group


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _tensors(rows: Sequence[Encoded], pad_id: int, device: torch.device) -> Batch:
    """ids, attention mask and labels [B, S], padded on the right."""
    length = max(len(row.ids) for row in rows)
    ids = [[*row.ids, *[pad_id] * (length - len(row.ids))] for row in rows]
    mask = [[1] * len(row.ids) + [0] * (length - len(row.ids)) for row in rows]
    # The first token has nothing before it that could predict it.
    labels = [[IGNORE, *row.labels[1:], *[IGNORE] * (length - len(row.ids))] for row in rows]
    return (
        torch.tensor(ids, device=device),
        torch.tensor(mask, device=device),
        torch.tensor(labels, device=device),
    )


def _from_hidden(model: Any, batch: Batch) -> list[RowLoss]:
    ids, mask, labels = batch
    base = base_of(model)
    states = base.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    hidden, targets = shifted(states, labels)
    head, cap = base.get_output_embeddings(), softcap_of(base.config.get_text_config())
    chunk = max(1, CHUNK_BYTES // (4 * int(base.config.get_text_config().vocab_size)))
    pieces = []
    for start in range(0, len(targets), chunk):
        logits = head(hidden[start : start + chunk]).float()
        logits = torch.tanh(logits / cap) * cap if cap else logits
        pieces.append(F.cross_entropy(logits, targets[start : start + chunk], reduction="none"))
    losses = torch.cat(pieces) if pieces else hidden.new_zeros(0)
    return _by_row(losses, labels)


def _from_logits(model: Any, batch: Batch) -> list[RowLoss]:
    ids, mask, labels = batch
    logits = base_of(model)(input_ids=ids, attention_mask=mask, use_cache=False).logits
    rows, targets = shifted(logits, labels)
    return _by_row(F.cross_entropy(rows.float(), targets, reduction="none"), labels)


def _by_row(losses: torch.Tensor, labels: torch.Tensor) -> list[RowLoss]:
    counts: list[int] = (labels[:, 1:] != IGNORE).sum(dim=1).tolist()
    parts = losses.double().split(counts)
    return [RowLoss(float(part.sum()), count) for part, count in zip(parts, counts, strict=True)]


def _head_is_a_product(model: Any, batch: Batch, warn: Warn) -> bool:
    """Whether hidden states times the head are this model's logits; some scale or mix them further."""
    ids, mask, _ = (part[:, :CHECK_TOKENS] for part in batch)
    fast, own = (path(model, (ids, mask, ids))[0].nll for path in (_from_hidden, _from_logits))
    exact = next(base_of(model).parameters()).dtype == torch.float32
    tolerance = TOLERANCE_FP32 if exact else TOLERANCE_16BIT
    if abs(fast - own) <= tolerance * max(1.0, abs(own)):
        return True
    warn("loss_fallback", f"loss from hidden states {fast:.4f} is not the model's own {own:.4f}: full logits are used")
    return False
