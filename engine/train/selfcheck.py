"""Does the fast path compute what the plain path does? Asked of one small batch before a run starts.

The packed, chunked loss is held against the model's own logits, and documents packed together against
each alone. A head that does more than a product falls back loudly; documents that see each other stop
the run. Called by `train.run`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.modeling import attention, forward
from engine.modeling.adapters import base_of
from engine.modeling.forward import Batch
from engine.modeling.loss import IGNORE

CHECK_TOKENS = 256
CHECK_DOCUMENTS = 2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 3e-2}
"""Largest relative difference of the summed loss; 16-bit products round differently in other shapes."""


@torch.no_grad()
def choose_loss(model: Any, batch: Batch, warn: Callable[[str, str], None]) -> Callable[[Any, Batch], torch.Tensor]:
    """The loss function to train with. Raises EngineError(MODEL) when packing is not exact."""
    model.eval()
    with _row_by_row(model):
        return _chosen(model, batch, warn)


@contextlib.contextmanager
def _row_by_row(model: Any) -> Iterator[None]:
    """int8 layers without outlier columns: which these are depends on all rows of a batch, so on who stands beside."""
    found: list[Any] = [getattr(module, "state", None) for module in model.modules()]
    states = [state for state in found if hasattr(state, "threshold")]
    kept = [state.threshold for state in states]
    try:
        for state in states:
            state.threshold = 0.0
        yield
    finally:
        for state, threshold in zip(states, kept, strict=True):
            state.threshold = threshold


def _chosen(model: Any, batch: Batch, warn: Callable[[str, str], None]) -> Callable[[Any, Batch], torch.Tensor]:
    pieces, packed, tolerance = _small(model, batch)
    fast, plain = float(forward.loss_sum(model, packed)), float(forward.loss_sum_from_logits(model, packed))
    chosen = forward.loss_sum
    if _differ(fast, plain, tolerance):
        warn("loss_fallback", f"chunked loss {fast:.4f} is not the model's own {plain:.4f}: full logits are used")
        chosen = forward.loss_sum_from_logits
    _check_attention(model, pieces[0], chosen, tolerance)
    alone = sum(float(chosen(model, _batch([ids], [labels], ids.device))) for ids, labels in pieces)
    together = float(chosen(model, packed))
    if _differ(alone, together, tolerance):
        raise EngineError(
            f"packed documents see each other in this model (loss {together:.4f} packed, {alone:.4f} alone)",
            code=ExitCode.MODEL,
            where="data.packing",
            hint="set data.packing = false",
        )
    return chosen


def _small(model: Any, batch: Batch) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], Batch, float]:
    """A few short documents, the same packed, and how far results may differ."""
    pieces = _documents(batch)
    packed = _batch([ids for ids, _ in pieces], [labels for _, labels in pieces], batch["input_ids"].device)
    return pieces, packed, TOLERANCE[next(model.parameters()).dtype] if _plain_dtype(model) else 3e-2


@torch.no_grad()
def check_rewards(model: Any, batch: Batch) -> None:
    """Raise EngineError(MODEL) unless documents score packed as the model's own code scores each alone."""
    model.eval()
    pieces, packed, tolerance = _small(model, batch)
    with _row_by_row(model):
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


def _check_attention(
    model: Any, piece: tuple[torch.Tensor, torch.Tensor], loss: Callable[[Any, Batch], torch.Tensor], tolerance: float
) -> None:
    """One document through transformers' eager attention: does the packed one leave out what this model needs?"""
    base = base_of(model)
    own = base.config._attn_implementation
    if own != attention.NAME:
        return
    batch = _batch([piece[0]], [piece[1]], piece[0].device)
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


def _batch(ids: list[torch.Tensor], labels: list[torch.Tensor], device: torch.device) -> Batch:
    sizes = [len(part) for part in ids]
    firsts = [part.clone() for part in labels]
    for part in firsts:
        part[0] = IGNORE
    offsets = torch.tensor([0, *sizes], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    return {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(firsts)[None],
        "position_ids": torch.cat([torch.arange(size, device=device) for size in sizes])[None],
        "cu_seq_lens": offsets,
        "max_doc_length": max(sizes, default=0),
    }
