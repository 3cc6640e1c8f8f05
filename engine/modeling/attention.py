"""Attention over packed documents, kept apart, registered with transformers as `tunedeck_packed`.

Batches are packed to a fixed shape; documents lie end to end in the flattened batch, and
`cu_seq_lens_q` (int32, [documents + 1], offsets into batch * length) says where each begins. On CUDA
in bf16 or fp16, torch's own variable-length flash kernel takes exactly that. Elsewhere one call per
document computes only the blocks that matter, which costs less than a masked square as soon as
documents are short against the row. Used by `train` and the perplexity of `evaluate`; generation keeps
transformers' own sdpa.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F

NAME = "tunedeck_packed"
MAX_HEAD_DIM = 256
"""Largest head that the flash kernels take."""


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
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document.

    `query` [B, H, S, D], `key` and `value` [B, KV, S, D] -> [B, S, H, D]. Without `cu_seq_lens_q` each
    row is one document.
    """
    if cu_seq_lens_q is None:
        batch, length = query.shape[0], query.shape[2]
        cu_seq_lens_q = torch.arange(0, (batch + 1) * length, length, dtype=torch.int32, device=query.device)
        max_length_q = length
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and _has_varlen(query):
        return _varlen(query, key, value, cu_seq_lens_q, int(max_length_q or 0), scaling, sliding_window), None
    return _by_document(query, key, value, cu_seq_lens_q, scaling, sliding_window), None


def _has_varlen(query: torch.Tensor) -> bool:
    if query.shape[-1] > MAX_HEAD_DIM or torch.cuda.get_device_capability(query.device) < (8, 0):
        return False
    try:
        from torch.nn.attention import varlen  # noqa: F401
    except ImportError:
        return False
    return True


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """[B, H, S, D] -> [B * S, H, D]."""
    return tensor.transpose(1, 2).flatten(0, 1)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    offsets: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.10 says is_causal, 2.11 and newer window_size; enable_gqa came later still.
    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"scale": scaling} if "scale" in known else {}
    if "window_size" in known:
        options["window_size"] = (window - 1 if window else -1, 0)
    else:
        options["is_causal"] = True
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" in known:
        options["enable_gqa"] = True
    elif groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    batch, length = query.shape[0], query.shape[2]
    out: torch.Tensor = varlen_attn(
        _flat(query), _flat(key), _flat(value), offsets, offsets, longest, longest, **options
    )  # type: ignore[assignment]
    return out.unflatten(0, (batch, length))


def _by_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    offsets: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    batch, length = query.shape[0], query.shape[2]
    flat_query, flat_key, flat_value = (_flat(tensor).transpose(0, 1) for tensor in (query, key, value))
    sizes = (offsets[1:] - offsets[:-1]).tolist()
    pieces = [
        F.scaled_dot_product_attention(
            q.unsqueeze(0),
            k.unsqueeze(0),
            v.unsqueeze(0),
            **_causal(q.shape[1], window, q),
            scale=scaling,
            enable_gqa=True,
        ).squeeze(0)
        for q, k, v in zip(
            flat_query.split(sizes, dim=1), flat_key.split(sizes, dim=1), flat_value.split(sizes, dim=1), strict=True
        )
    ]
    return torch.cat(pieces, dim=1).transpose(0, 1).unflatten(0, (batch, length))


def _causal(length: int, window: int | None, like: torch.Tensor) -> dict[str, Any]:
    if window is None or length <= window:
        return {"is_causal": True}
    rows = torch.arange(length, device=like.device)
    distance = rows[:, None] - rows[None, :]
    return {"attn_mask": (distance >= 0) & (distance < window)}
