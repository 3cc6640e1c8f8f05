"""Attention over packed documents, kept apart, registered with transformers as `tunedeck_packed`.

Batches are packed to a fixed shape; documents lie end to end in the flattened batch, and
`cu_seq_lens_q` (int32, [documents + 1], offsets into batch * length) says where each begins. A GPU has kernels that
take exactly that (`attention_kernels.py`). On a processor one call per document computes only the blocks that matter,
which costs less than a masked square as soon as documents are short against the row; in bf16, short documents go
through plain products there, because the backward pass of the processor's flash kernel is two to three times slower.
Training and the perplexity of an evaluation use this; generation keeps transformers' own sdpa.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from engine.errors import EngineError, ExitCode
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_flex import Capped, capped_attention
from engine.modeling.attention_kernels import capability, fused_attention, kernel_for
from engine.modeling.attention_operators import Call, widened
from engine.modeling.attention_sinks import SinkAttention

NAME = "tunedeck_packed"
_IMPLEMENTATION = "_attn_implementation_internal"
"""Of one configuration; transformers' public name would also change the configurations below it."""
LENGTHS = "document_lengths"
"""Attribute of a batch's offsets: the documents' lengths as host values, a tuple."""
_BY_FLEX = "scores_by_flex"
"""Attribute of attention modules whose soft-capped scores go through flex attention."""
_FLEX_SHARE = 0.02
SHORT_TOKENS = 512
"""Up to here plain bf16 products beat the processor's flash kernel, forward and backward."""


def register() -> None:
    """Make `attn_implementation="tunedeck_packed"` known to transformers.

    No mask is registered under this name: for an attention without one, every `create_*_mask` of transformers returns
    None at once, per layer type where a model has several. With one it would first search the position ids for
    document bounds, for which the host waits; here they travel as `cu_seq_lens_q`.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


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

    `query` [B, H, S, D], `key` [B, KV, S, D], `value` [B, KV, S, V], `s_aux` (sinks) [H] -> [B, S, H, V]. Without
    `cu_seq_lens_q` each row is one document. Raises EngineError(MODEL) for sinks beside a soft cap.
    """
    if s_aux is not None and softcap is not None:
        raise EngineError(
            "this model has attention sinks and soft-capped scores, which packed attention does not have together",
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
    longest = int(max_length_q or query.shape[2])
    lengths = () if s_aux is not None or torch.compiler.is_compiling() else getattr(cu_seq_lens_q, LENGTHS, ())
    documents = Documents(cu_seq_lens_q, longest, query.shape[0], query.shape[2], lengths)
    narrow = value.shape[-1] < query.shape[-1]
    kernel = kernel_for(query, key, documents, sliding_window, narrow_values=narrow) if softcap is None else None
    if kernel is not None:
        return fused_attention(query, key, value, Call(kernel, documents, scale, sliding_window), s_aux), None
    if softcap is not None and getattr(module, _BY_FLEX, False):
        return capped_attention(query, key, value, documents, Capped(scale, softcap, sliding_window)), None
    return _by_document(query, key, value, cu_seq_lens_q, Scores(scale, sliding_window, softcap), s_aux), None


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """transformers' own attention while a model that learns writes answers: packed attention reads no cache."""
    name = "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    packed = [config for config in configs.values() if getattr(config, _IMPLEMENTATION, None) == NAME]
    try:
        for config in packed:
            setattr(config, _IMPLEMENTATION, name)
        yield
    finally:
        for config in packed:
            setattr(config, _IMPLEMENTATION, NAME)


def use_flex(model: Any, warn: Callable[[str, str], None]) -> None:
    """Let a model with soft-capped scores go through flex attention, where the GPU compiles it and it is right.

    Else the square of a document's scores is formed, with a warning.
    """
    cap = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    card = capability(next(model.parameters()))
    if not cap or card is None:
        return
    reason = "it needs compute capability 8.0" if card < (8, 0) else _flex_differs(model, float(cap))
    if reason:
        warn("attention_fallback", f"flex attention is not used, each document's square of scores is: {reason}")
        return
    for module in model.modules():
        if hasattr(module, "scaling") and hasattr(module, "layer_idx"):
            setattr(module, _BY_FLEX, True)


def _flex_differs(model: Any, cap: float) -> str:
    """What is wrong with flex attention here, asked with two small rows; empty where nothing is."""
    weight, config = next(model.parameters()), model.config.get_text_config()
    sizes = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    generator = torch.Generator(weight.device).manual_seed(0)
    options: dict[str, Any] = {"generator": generator, "device": weight.device, "dtype": weight.dtype}
    query, key, value = (torch.randn((2, count, 128, width), **options).requires_grad_() for count in sizes)
    parts = (query, key, value)
    offsets = torch.tensor([0, 40, 128, 256], dtype=torch.int32, device=weight.device)
    scale = width**-0.5
    try:
        found = capped_attention(query, key, value, Documents(offsets, 128, 2, 128), Capped(scale, cap, None))
        expected = _by_document(query, key, value, offsets, Scores(scale, None, cap))
        pairs = [(found, expected)]
        pairs += zip(*(torch.autograd.grad(each.sum(), parts) for each in (found, expected)), strict=True)
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    apart = max(float((one - other).norm() / other.norm()) for one, other in pairs)
    return "" if apart <= _FLEX_SHARE else f"its result is off by {apart:.1%}"


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
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    offsets: torch.Tensor,
    how: Scores,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    batch, length = query.shape[0], query.shape[2]
    flat_query, flat_key, flat_value = (_flat(tensor).transpose(0, 1) for tensor in (query, key, value))
    sizes = (offsets[1:] - offsets[:-1]).tolist()
    documents = zip(
        flat_query.split(sizes, dim=1), flat_key.split(sizes, dim=1), flat_value.split(sizes, dim=1), strict=True
    )
    pieces = [_document(*document, how, sinks) for document in documents]
    return torch.cat(pieces, dim=1).transpose(0, 1).unflatten(0, (batch, length))


def _document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores, sinks: torch.Tensor | None
) -> torch.Tensor:
    """Causal attention of one document: [H, L, D], [KV, L, D], [KV, L, V], [H] -> [H, L, V]."""
    length = query.shape[1]
    short = not query.is_cuda and query.dtype == torch.bfloat16 and length <= SHORT_TOKENS
    if how.softcap:
        return _capped(query, key, value, how)
    if short:
        bias = _bias(length, how.window, query.dtype, query.device)
        out: torch.Tensor = ShortAttention.apply(query, key, value, sinks, bias, how.scale)
        return out
    windowed = how.window is not None and length > how.window
    mask = _bias(length, how.window, query.dtype, query.device) if windowed else None
    if sinks is not None:
        found: torch.Tensor = SinkAttention.apply(query[None], key[None], value[None], sinks, mask, how.scale)
        return found[0]
    width = value.shape[-1]
    # With narrower values, torch would form the square of scores and keep it.
    value = widened(value, query.shape[-1] - width)
    return F.scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=mask, is_causal=mask is None, scale=how.scale, enable_gqa=True
    )[0, ..., :width]


class ShortAttention(torch.autograd.Function):
    """Attention of one short document as plain products; probabilities are formed again in the backward pass.

    Scores are rounded to the tensors' dtype before an fp32 softmax, as in transformers' eager attention.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor | None,
        bias: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """[H, L, D], [KV, L, D], [KV, L, V], sinks [H], bias [L, L] -> [H, L, V]."""
        ctx.save_for_backward(query, key, value, sinks)
        ctx.bias, ctx.scale = bias, scale
        _, probabilities = _probabilities(query, key, sinks, bias, scale)
        found = torch.bmm(probabilities[..., : bias.shape[1]], value)
        return found.reshape(*query.shape[:-1], value.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key, value and sinks."""
        query, key, value, sinks = ctx.saved_tensors
        length = ctx.bias.shape[1]
        grouped, probabilities = _probabilities(query, key, sinks, ctx.bias, ctx.scale)
        grad = grads[0].reshape(*grouped.shape[:-1], value.shape[-1])
        grad_value = torch.bmm(probabilities[..., :length].transpose(1, 2), grad)
        above = torch.bmm(grad, value.transpose(1, 2))
        above = above if sinks is None else F.pad(above, (0, 1))
        grad_scores = torch._softmax_backward_data(above, probabilities, -1, probabilities.dtype)
        of_sinks = None
        if ctx.needs_input_grad[3]:
            of_sinks = grad_scores[..., length].reshape(query.shape[:2]).float().sum(dim=1).to(sinks.dtype)
        grad_scores = grad_scores[..., :length].mul_(ctx.scale)
        grad_query = torch.bmm(grad_scores, key).reshape(query.shape)
        grad_key = torch.bmm(grad_scores.transpose(1, 2), grouped)
        return grad_query, grad_key, grad_value, of_sinks, None, None


def _probabilities(
    query: torch.Tensor, key: torch.Tensor, sinks: torch.Tensor | None, bias: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries that share a key head in one matrix [KV, G * L, D], and their probabilities [KV, G * L, L].

    With sinks their probability is one more column, the last.
    """
    heads, length, width = query.shape
    groups = heads // key.shape[0]
    grouped = query.reshape(key.shape[0], groups * length, width)
    tiled = bias.repeat(groups, 1).expand(key.shape[0], -1, -1)
    scores = torch.baddbmm(tiled, grouped, key.transpose(1, 2), alpha=scale)
    if sinks is not None:
        column = sinks.to(scores.dtype).repeat_interleave(length).reshape(key.shape[0], groups * length, 1)
        scores = torch.cat((scores, column), dim=-1)
    return grouped, scores.softmax(dim=-1)


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
