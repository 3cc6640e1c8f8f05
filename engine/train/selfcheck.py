"""Does the fast path compute what the plain path does? Asked of one small batch before a run starts.

The chunked loss is compared with the model's own logits, and packed attention with transformers' eager one on a single
document. A head that does more than a product falls back loudly; another attention stops the run. Not here: whether
documents see each other (`leaks.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.modeling import attention, forward
from engine.modeling.adapters import base_of
from engine.modeling.forward import Batch
from engine.modeling.loss import IGNORE
from engine.train.leaks import row_by_row

CHECK_TOKENS = 256
CHECK_DOCUMENTS = 2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 3e-2}
"""Largest relative difference of the summed loss; 16-bit products round differently in other shapes."""


@torch.no_grad()
def choose_loss(model: Any, batch: Batch, warn: Callable[[str, str], None]) -> Callable[[Any, Batch], torch.Tensor]:
    """The loss function to train with. Raises EngineError(MODEL) when packed attention is not the model's own."""
    model.eval()
    with row_by_row(model):
        return _chosen(model, batch, warn)


def _chosen(model: Any, batch: Batch, warn: Callable[[str, str], None]) -> Callable[[Any, Batch], torch.Tensor]:
    pieces, packed, tolerance = _small(model, batch)
    fast, plain = float(forward.loss_sum(model, packed)), float(forward.loss_sum_from_logits(model, packed))
    chosen = forward.loss_sum
    if _differ(fast, plain, tolerance):
        warn("loss_fallback", f"chunked loss {fast:.4f} is not the model's own {plain:.4f}: full logits are used")
        chosen = forward.loss_sum_from_logits
    _check_attention(model, _small_batch(batch, pieces[:1]), chosen, tolerance)
    return chosen


def _small(model: Any, batch: Batch) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], Batch, float]:
    """A few short documents, the same packed, and how far results may differ."""
    pieces = _documents(batch)
    tolerance = TOLERANCE[next(model.parameters()).dtype] if _plain_dtype(model) else 3e-2
    return pieces, _small_batch(batch, pieces), tolerance


@torch.no_grad()
def check_rewards(model: Any, batch: Batch) -> None:
    """Raise EngineError(MODEL) unless documents score packed as the model's own code scores each alone."""
    model.eval()
    pieces, packed, tolerance = _small(model, batch)
    with row_by_row(model):
        together = forward.document_rewards(model, packed).tolist()
        base = base_of(model)
        states = [base.get_decoder()(input_ids=ids[None], use_cache=False).last_hidden_state for ids, _ in pieces]
        alone = [float(base.score(found[0, -1]).float()) for found in states]
    for one, other in zip(together, alone, strict=True):
        if _differ(one, other, tolerance):
            raise EngineError(
                f"packed documents see each other in this model (score {one:.4f} packed, {other:.4f} alone)",
                code=ExitCode.MODEL,
                where="data.packing",
                hint="use another model",
            )


def _check_attention(model: Any, batch: Batch, loss: Callable[[Any, Batch], torch.Tensor], tolerance: float) -> None:
    """One document through transformers' eager attention: does the packed one leave out what this model needs?"""
    base = base_of(model)
    own = base.config._attn_implementation
    if own != attention.NAME:
        return
    packed = float(loss(model, batch))
    base.set_attn_implementation("eager")
    try:
        eager = float(loss(model, batch))
    finally:
        base.set_attn_implementation(own)
    if _differ(packed, eager, tolerance):
        raise EngineError(
            f"packed attention is not this model's own (loss {packed:.4f}, eager {eager:.4f})",
            code=ExitCode.MODEL,
            where="model.attention",
            hint='set model.attention = "eager"',
        )


def _plain_dtype(model: Any) -> bool:
    return next(model.parameters()).dtype in TOLERANCE


def _differ(one: float, other: float, tolerance: float) -> bool:
    return not abs(one - other) <= tolerance * max(abs(one), abs(other), 1.0)


def _documents(batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The first documents, each cut to the tokens around its first trained one."""
    ids, labels = batch["input_ids"].flatten(), batch["labels"].flatten()
    bounds = batch["cu_seq_lens"].tolist()
    found = []
    for start, end in itertools.pairwise(bounds):
        trained = (labels[start + 1 : end] != IGNORE).nonzero()
        if not len(trained):
            continue
        first = start + 1 + int(trained[0])
        cut = slice(max(start, first - CHECK_TOKENS // 2), min(end, first + CHECK_TOKENS // 2))
        found.append((ids[cut], labels[cut]))
        if len(found) == CHECK_DOCUMENTS:
            break
    return found


def _small_batch(like: Batch, pieces: list[tuple[torch.Tensor, torch.Tensor]]) -> Batch:
    """`pieces` packed into one row; only the first where `like` has one document a row, behind a mask or not."""
    device, alone = like["input_ids"].device, bool(like.get("alone"))
    pieces = pieces[:1] if alone or "attention_mask" in like else pieces
    ids, labels = [piece[0] for piece in pieces], [piece[1].clone() for piece in pieces]
    for part in labels:
        part[0] = IGNORE
    sizes = [len(part) for part in ids]
    batch: Batch = {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": torch.cat([torch.arange(size, device=device) for size in sizes])[None],
        "cu_seq_lens": torch.tensor([0, *sizes], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32),
        "max_doc_length": max(sizes, default=0),
        "alone": alone,
    }
    return batch | ({"attention_mask": torch.ones_like(batch["input_ids"])} if "attention_mask" in like else {})
