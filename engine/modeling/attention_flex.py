"""Attention with soft-capped scores (Gemma 2) on a GPU, through torch's flex attention: no square of scores.

Flex attention compiles one kernel from two small functions: what a score becomes, and which scores count. Blocks of 128
x 128 that no document reaches are skipped. Compiling takes seconds, once or twice a run. Where it fails, the caller
forms the scores of each document whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from engine.modeling.attention_documents import Documents


@dataclass(frozen=True, slots=True)
class Capped:
    """How scores are formed: cap * tanh(scale * q k / cap), over the last `window` tokens of the document."""

    scale: float
    cap: float
    window: int | None


def capped_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: Documents, how: Capped
) -> torch.Tensor:
    """Causal attention within each document: [B, H, S, D], [B, KV, S, D] twice -> [B, S, H, D]."""
    mask = _blocks(documents, how.window)
    flat = [part.transpose(0, 1).flatten(1, 2)[None] for part in (query, key, value)]
    out = _flex()(*flat, score_mod=_capping(how.cap), block_mask=mask, scale=how.scale, enable_gqa=True)
    found: torch.Tensor = out[0].transpose(0, 1).unflatten(0, (documents.rows, documents.length))
    return found


@lru_cache(maxsize=1)
def _flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


@lru_cache(maxsize=8)
def _capping(cap: float) -> Any:
    def capped(score: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return cap * torch.tanh(score / cap)

    return capped


_last_blocks: dict[int | None, tuple[torch.Tensor, Any]] = {}
"""By window: the offsets that blocks were made for, and the blocks. All layers of a batch share them."""


def _blocks(documents: Documents, window: int | None) -> Any:
    known = _last_blocks.get(window)
    if known is not None and known[0] is documents.offsets:
        return known[1]
    made = block_mask(documents, window)
    _last_blocks[window] = (documents.offsets, made)
    return made


def block_mask(documents: Documents, window: int | None) -> Any:
    """Which tokens look at which: flex attention's BlockMask over the flattened batch."""
    from torch.nn.attention.flex_attention import create_block_mask

    tokens, device = documents.rows * documents.length, documents.offsets.device
    owner = torch.bucketize(torch.arange(tokens, device=device, dtype=torch.int32), documents.offsets[1:], right=True)
    reach = tokens if window is None else window

    def looks(_: torch.Tensor, __: torch.Tensor, at: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        return (owner[at] == owner[to]) & (at >= to) & (at - to < reach)

    return create_block_mask(looks, None, None, tokens, tokens, device=device)
