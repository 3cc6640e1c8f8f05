"""torch's own operators for attention over packed documents, called alike: flash, cuDNN's and the memory-efficient one.

Each has a forward and a backward call in `FORWARD` and `BACKWARD`; `attention_kernels.py` chooses one and puts the two
into an autograd function. Heads come as [B, H, S, D]; what a kernel keeps is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from engine.modeling.attention_documents import Documents, runs_of

Kernel = Literal["flash", "cudnn", "efficient"]

_CAUSAL_FROM_TOP_LEFT = 1
"""`custom_mask_type` of the memory-efficient kernel."""


@dataclass(frozen=True, slots=True)
class Call:
    """One layer's attention: which kernel, over which documents, and how scores are formed."""

    kernel: Kernel
    documents: Documents
    scale: float
    window: int | None = None
    """Tokens that one may look back, itself counted."""


def forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> tuple[torch.Tensor, ...]:
    """The kernel's output and what its backward pass needs."""
    missing = _missing(query, value, call)
    out, *others = FORWARD[call.kernel](query, key, widened(value, missing), call)
    return (out[..., : value.shape[-1]].contiguous() if missing else out, *others)


def backward(
    grad: torch.Tensor, parts: Sequence[torch.Tensor], found: Sequence[torch.Tensor], call: Call
) -> tuple[torch.Tensor, ...]:
    """Gradients of query, key and value; `found` is what `forward` gave."""
    query, key, value = parts
    grad, wide, out = (widened(each, _missing(query, value, call)) for each in (grad, value, found[0]))
    gradients = BACKWARD[call.kernel](grad, query, key, wide, (out, *found[1:]), call)
    return (*gradients[:2], gradients[2][..., : value.shape[-1]])


def by_token(normalizer: torch.Tensor, call: Call) -> torch.Tensor:
    """A kernel's log-sum-exp as [B * S, H]."""
    if call.kernel == "flash":
        return normalizer.transpose(0, 1)
    if call.kernel == "cudnn":
        return normalizer.squeeze(-1).transpose(1, 2).flatten(0, 1)
    offsets = call.documents.offsets
    tokens = torch.arange(call.documents.rows * call.documents.length, device=offsets.device)
    owners = torch.bucketize(tokens, offsets[1:], right=True)
    return normalizer[owners, :, tokens - offsets[owners]]


def _missing(query: torch.Tensor, value: torch.Tensor, call: Call) -> int:
    """Features that a value head lacks where the kernel wants all heads of one width."""
    return 0 if call.kernel == "efficient" else query.shape[-1] - value.shape[-1]


def widened(heads: torch.Tensor, missing: int) -> torch.Tensor:
    """`heads` with that many zeros behind each; the tensor itself where none are missing."""
    return F.pad(heads, (0, missing)) if missing else heads


def rows_first(out: torch.Tensor, call: Call) -> torch.Tensor:
    """A kernel's output as [B, S, H, D]."""
    if call.kernel == "cudnn":
        return out.transpose(1, 2)
    return out.reshape(call.documents.rows, call.documents.length, *out.shape[-2:])


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """[B, H, S, D] -> [B * S, H, D]."""
    return tensor.transpose(1, 2).flatten(0, 1)


def _heads_first(flat: torch.Tensor, call: Call) -> torch.Tensor:
    """[B * S, H, D] -> [B, H, S, D]."""
    return flat.unflatten(0, (call.documents.rows, call.documents.length)).transpose(1, 2)


def _window_options(call: Call) -> dict[str, Any]:
    bounds = {} if call.window is None else {"window_size_left": call.window - 1, "window_size_right": 0}
    return {"scale": call.scale, **bounds}


def _flash_forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> tuple[torch.Tensor, ...]:
    at, longest = call.documents.offsets, call.documents.longest
    out, normalizer, seed, unused, _ = torch.ops.aten._flash_attention_forward(
        _flat(query), _flat(key), _flat(value), at, at, longest, longest, 0.0, call.window is None, False,
        **_window_options(call),
    )  # fmt: skip
    return out, normalizer, seed, unused


def _flash_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    found: tuple[torch.Tensor, ...],
    call: Call,
) -> tuple[torch.Tensor, ...]:
    at, longest = call.documents.offsets, call.documents.longest
    out, normalizer, seed, unused = found
    gradients = torch.ops.aten._flash_attention_backward(
        grad.flatten(0, 1), _flat(query), _flat(key), _flat(value), out, normalizer, at, at, longest, longest, 0.0,
        call.window is None, seed, unused, **_window_options(call),
    )  # fmt: skip
    return tuple(_heads_first(gradient, call) for gradient in gradients)


def _cudnn_forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> tuple[torch.Tensor, ...]:
    found = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, True, 0.0, True, False, scale=call.scale
    )
    return found[0], found[1], found[6], found[7]


def _cudnn_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    found: tuple[torch.Tensor, ...],
    call: Call,
) -> tuple[torch.Tensor, ...]:
    out, normalizer, seed, offset = found
    length = call.documents.length
    gradients: tuple[torch.Tensor, ...] = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
        grad.transpose(1, 2), query, key, value, out, normalizer, seed, offset, None, None, None, length, length, 0.0,
        True, scale=call.scale,
    )  # fmt: skip
    return gradients


def _repeated(flat: torch.Tensor, heads: int) -> torch.Tensor:
    """[T, KV, D] -> [1, T, heads, D], each key head as often as query heads share it."""
    return flat.repeat_interleave(heads // flat.shape[1], dim=1)[None]


def _efficient_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call
) -> tuple[torch.Tensor, ...]:
    """The output [1, T, H, V], and for each run of documents its log-sum-exp, seed and offset."""
    flats, heads = (_flat(query), _flat(key), _flat(value)), query.shape[1]
    outs: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for run in runs_of(call.documents, query.shape[-1]):
        parts = [flats[0][run.tokens][None], *(_repeated(flat[run.tokens], heads) for flat in flats[1:])]
        out, *beside = efficient_forward(parts, run.offsets(call.documents), run.longest, call)
        outs.append(out)
        others += beside
    return (outs[0] if len(outs) == 1 else torch.cat(outs, dim=1), *others)


def _efficient_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    found: tuple[torch.Tensor, ...],
    call: Call,
) -> tuple[torch.Tensor, ...]:
    flats, flat_grad = (_flat(query), _flat(key), _flat(value)), grad.flatten(0, 1)
    heads, sizes = query.shape[1], (query.shape[1], key.shape[1], key.shape[1])
    made: list[list[torch.Tensor]] = [[], [], []]
    out, others = found[0], found[1:]
    for number, run in enumerate(runs_of(call.documents, query.shape[-1])):
        parts = [flats[0][run.tokens][None], *(_repeated(flat[run.tokens], heads) for flat in flats[1:])]
        kept = (out[:, run.tokens], *others[3 * number : 3 * number + 3])
        gradients = efficient_backward(
            flat_grad[run.tokens][None], parts, kept, run.offsets(call.documents), run.longest, call
        )
        for collected, gradient, size in zip(made, gradients, sizes, strict=True):
            flat = gradient[0]
            collected.append(flat.unflatten(1, (size, heads // size)).sum(dim=2) if size != heads else flat)
    return tuple(_heads_first(each[0] if len(each) == 1 else torch.cat(each), call) for each in made)


def efficient_forward(
    parts: Sequence[torch.Tensor], offsets: torch.Tensor, longest: int, call: Call
) -> tuple[torch.Tensor, ...]:
    """torch's operator over one run of documents: output, log-sum-exp, seed, offset."""
    found: tuple[torch.Tensor, ...] = torch.ops.aten._efficient_attention_forward(
        *parts, None, offsets, offsets, longest, longest, 0.0, _CAUSAL_FROM_TOP_LEFT, True, scale=call.scale,
        window_size=call.window,
    )[:4]  # fmt: skip
    return found


def efficient_backward(
    grad: torch.Tensor,
    parts: Sequence[torch.Tensor],
    found: Sequence[torch.Tensor],
    offsets: torch.Tensor,
    longest: int,
    call: Call,
) -> tuple[torch.Tensor, ...]:
    """The operator's gradients of query, key and value."""
    out, normalizer, seed, offset = found
    gradients: tuple[torch.Tensor, ...] = torch.ops.aten._efficient_attention_backward(
        grad, *parts, None, out, offsets, offsets, longest, longest, normalizer, 0.0, seed, offset,
        _CAUSAL_FROM_TOP_LEFT, False, scale=call.scale, window_size=call.window,
    )[:3]  # fmt: skip
    return gradients


FORWARD = {"flash": _flash_forward, "cudnn": _cudnn_forward, "efficient": _efficient_forward}
BACKWARD = {"flash": _flash_backward, "cudnn": _cudnn_backward, "efficient": _efficient_backward}
