"""Attention over packed documents, kept apart, registered with transformers as `tunedeck_packed`.

Batches are packed to a fixed shape; documents lie end to end in the flattened batch, and
`cu_seq_lens_q` (int32, [documents + 1], offsets into batch * length) says where each begins. A GPU has kernels that
take exactly that (`attention_kernels.py`). On a processor one call per document computes only the blocks that matter,
which costs less than a masked square as soon as documents are short against the row; in bf16, short documents go
through plain products there, because the backward pass of the processor's flash kernel is two to three times slower.
Training and the perplexity of an evaluation use this; generation keeps transformers' own sdpa.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from engine.errors import EngineError, ExitCode
from engine.modeling.attention_kernels import Call, Documents, capability, fused_attention, kernel_for

NAME = "tunedeck_packed"
SHORT_TOKENS = 512
"""Up to here plain bf16 products beat the processor's flash kernel, forward and backward."""


def register() -> None:
    """Make `attn_implementation="tunedeck_packed"` known to transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """The document bounds travel as `cu_seq_lens_q`; transformers must not build a square mask."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document.

    `query` [B, H, S, D], `key` and `value` [B, KV, S, D] -> [B, S, H, D]. Without `cu_seq_lens_q` each
    row is one document. Raises EngineError(MODEL) for attention sinks (`s_aux`), which it does not have.
    """
    if s_aux is not None:
        raise EngineError(
            "this model has attention sinks, which packed attention does not",
            code=ExitCode.MODEL,
            where="model.attention",
            hint='set model.attention = "eager"',
        )
    if cu_seq_lens_q is None:
        batch, length = query.shape[0], query.shape[2]
        cu_seq_lens_q = torch.arange(0, (batch + 1) * length, length, dtype=torch.int32, device=query.device)
        max_length_q = length
    if torch.is_autocast_enabled() and capability(query) is not None:
        # Kernels take one dtype; rotation leaves queries in fp32 where the weights are fp32 (full training in fp16).
        query, key, value = (part.to(torch.get_autocast_dtype("cuda")) for part in (query, key, value))
    scale = scaling or query.shape[-1] ** -0.5
    documents = Documents(cu_seq_lens_q, int(max_length_q or query.shape[2]), query.shape[0], query.shape[2])
    kernel = kernel_for(query, key, documents, sliding_window) if softcap is None else None
    if kernel is not None:
        return fused_attention(query, key, value, Call(kernel, documents, scale, sliding_window)), None
    return _by_document(query, key, value, cu_seq_lens_q, Scores(scale, sliding_window, softcap)), None


@dataclass(frozen=True, slots=True)
class Scores:
    """How attention scores are formed: scale, tokens to look back (with itself), soft cap (Gemma 2)."""

    scale: float
    window: int | None
    softcap: float | None


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """[B, H, S, D] -> [B * S, H, D]."""
    return tensor.transpose(1, 2).flatten(0, 1)


def _by_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, offsets: torch.Tensor, how: Scores
) -> torch.Tensor:
    batch, length = query.shape[0], query.shape[2]
    flat_query, flat_key, flat_value = (_flat(tensor).transpose(0, 1) for tensor in (query, key, value))
    sizes = (offsets[1:] - offsets[:-1]).tolist()
    documents = zip(
        flat_query.split(sizes, dim=1), flat_key.split(sizes, dim=1), flat_value.split(sizes, dim=1), strict=True
    )
    pieces = [_document(*document, how) for document in documents]
    return torch.cat(pieces, dim=1).transpose(0, 1).unflatten(0, (batch, length))


def _document(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
    """Causal attention of one document: [H, L, D], [KV, L, D], [KV, L, D] -> [H, L, D]."""
    length = query.shape[1]
    short = not query.is_cuda and query.dtype == torch.bfloat16 and length <= SHORT_TOKENS
    if how.softcap:
        return _capped(query, key, value, how)
    if short:
        bias = _bias(length, how.window, query.dtype, query.device)
        out: torch.Tensor = ShortAttention.apply(query, key, value, bias, how.scale)
        return out
    windowed = how.window is not None and length > how.window
    mask = _bias(length, how.window, query.dtype, query.device) if windowed else None
    return F.scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=mask, is_causal=mask is None, scale=how.scale, enable_gqa=True
    )[0]


class ShortAttention(torch.autograd.Function):
    """Attention of one short document as plain products; probabilities are formed again in the backward pass.

    Scores are rounded to the tensors' dtype before an fp32 softmax, as in transformers' eager attention.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """[H, L, D], [KV, L, D], [KV, L, D], bias [L, L] -> [H, L, D]."""
        ctx.save_for_backward(query, key, value)
        ctx.bias, ctx.scale = bias, scale
        _, probabilities = _probabilities(query, key, bias, scale)
        return torch.bmm(probabilities, value).reshape(query.shape)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        grouped, probabilities = _probabilities(query, key, ctx.bias, ctx.scale)
        grad = grads[0].reshape(grouped.shape)
        grad_value = torch.bmm(probabilities.transpose(1, 2), grad)
        grad_scores = torch._softmax_backward_data(
            torch.bmm(grad, value.transpose(1, 2)), probabilities, -1, probabilities.dtype
        ).mul_(ctx.scale)
        grad_query = torch.bmm(grad_scores, key).reshape(query.shape)
        grad_key = torch.bmm(grad_scores.transpose(1, 2), grouped)
        return grad_query, grad_key, grad_value, None, None


def _probabilities(
    query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries that share a key head in one matrix [KV, G * L, D], and their probabilities [KV, G * L, L]."""
    heads, length, width = query.shape
    groups = heads // key.shape[0]
    grouped = query.reshape(key.shape[0], groups * length, width)
    tiled = bias.repeat(groups, 1).expand(key.shape[0], -1, -1)
    return grouped, torch.baddbmm(tiled, grouped, key.transpose(1, 2), alpha=scale).softmax(dim=-1)


def _capped(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
    """Attention with soft-capped scores; no kernel takes them, so the square of scores is built."""
    groups = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(groups, dim=0), value.repeat_interleave(groups, dim=0)
    cap = float(how.softcap or 1.0)
    scores = torch.tanh(torch.bmm(query, key.transpose(1, 2)) * (how.scale / cap)) * cap
    scores = scores + _bias(query.shape[1], how.window, query.dtype, query.device)
    return torch.bmm(scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype), value)


def _bias(length: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """0 where a token may look, minus infinity elsewhere: [L, L]."""
    if length > SHORT_TOKENS:
        return _full_bias(length, window, dtype, device)
    return _short_bias(window, dtype, device)[:length, :length]


@lru_cache(maxsize=8)
def _short_bias(window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return _full_bias(SHORT_TOKENS, window, dtype, device)


def _full_bias(length: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    rows = torch.arange(length, device=device)
    distance = rows[:, None] - rows[None, :]
    allowed = (distance >= 0) & (distance < (window or length))
    return torch.zeros((length, length), dtype=dtype, device=device).masked_fill_(~allowed, float("-inf"))
