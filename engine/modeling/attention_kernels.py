"""Fused attention kernels of a GPU over packed documents: which one, and all as one autograd function.

`flash` takes documents of any length by their offsets, and grouped heads as they are (Ampere and newer, 16-bit, heads
up to 256). `cudnn` is the fastest where every row is one document, on Hopper and Blackwell. `efficient` is the
memory-efficient kernel with offsets, for fp32, older cards and wider heads; its keys are repeated for every query head.
None of them builds a square of scores, and none asks the card for a size. Value heads may be narrower than the others
(latent attention): `efficient` takes them so, `flash` with zeros beside them that nothing keeps. Not here: soft caps,
processors, which call belongs to which layer (`attention.py`), and torch's own operators (`attention_operators.py`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from engine.modeling.attention_documents import Documents
from engine.modeling.attention_operators import BACKWARD, FORWARD, Call, Kernel, backward, by_token, forward, rows_first
from engine.modeling.attention_sinks import joined, share_left, sink_gradient

FLASH_HEAD_DIM, CUDNN_HEAD_DIM = 256, 128
"""Widest heads with a backward pass."""
_CUDNN_VERSION = 91501
"""From here on cuDNN's training kernels are what torch itself prefers on these cards (aten/sdp_utils.cpp)."""
_PROBE_TOKENS = 128
_PROBE_SHARE = 0.02
"""Largest difference of cuDNN's probe from flash attention's, as a share of the norm; rounding takes 0.005."""
_COMPARED: tuple[Kernel, Kernel] = ("cudnn", "flash")


def capability(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Compute capability of the card that holds `tensor`; None on a processor."""
    return torch.cuda.get_device_capability(tensor.device) if tensor.is_cuda else None


def kernel_for(
    query: torch.Tensor, key: torch.Tensor, documents: Documents, window: int | None, *, narrow_values: bool = False
) -> Kernel | None:
    """The kernel that takes these heads [B, H, S, D] on this card; None on a processor."""
    card = capability(query)
    if card is None:
        return None
    width, sixteen_bit = query.shape[-1], query.dtype in (torch.bfloat16, torch.float16)
    if card < (8, 0) or not sixteen_bit or width > FLASH_HEAD_DIM:
        return "efficient"
    whole = documents.one_a_row and (window is None or window >= documents.length)
    if whole and not narrow_values and width <= CUDNN_HEAD_DIM and width % 8 == 0 and has_cudnn(query, key):
        return "cudnn"
    return "flash"


def has_cudnn(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether cuDNN's kernel is the fast one on this card and computes what flash attention does."""
    card = capability(query)
    if card is None or card[0] not in (9, 10) or torch.are_deterministic_algorithms_enabled():
        return False
    if (torch.backends.cudnn.version() or 0) < _CUDNN_VERSION:
        return False
    return _cudnn_agrees(query.shape[1] // key.shape[1], query.shape[-1], query.dtype, query.device)


@lru_cache(maxsize=16)
def _cudnn_agrees(groups: int, width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Output and gradients of two small rows through cuDNN and through flash attention, once for each kind of head."""
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(2, heads, _PROBE_TOKENS, width) for heads in (2 * groups, 2, 2)]
    parts = [torch.randn(shape, generator=generator, dtype=dtype, device=device) for shape in shapes]
    offsets = torch.arange(3, dtype=torch.int32, device=device) * _PROBE_TOKENS
    documents = Documents(offsets, _PROBE_TOKENS, 2, _PROBE_TOKENS)
    try:
        found, expected = (_with_gradients(parts, Call(kernel, documents, width**-0.5)) for kernel in _COMPARED)
    except RuntimeError:
        return False
    pairs = zip(found, expected, strict=True)
    return all(float((one - other).float().norm() / other.float().norm()) < _PROBE_SHARE for one, other in pairs)


def _with_gradients(parts: Sequence[torch.Tensor], call: Call) -> list[torch.Tensor]:
    """Without autograd, whose hooks a checkpointed layer counts."""
    query, key, value = parts
    with torch.no_grad():
        found = FORWARD[call.kernel](query, key, value, call)
        out = rows_first(found[0], call)
        return [out, *BACKWARD[call.kernel](torch.ones_like(out), query, key, value, found, call)]


class KeptOutputs:
    """Attention's outputs of one layer, kept from the forward pass so that recomputing the layer does not form them.

    A context around the layer: the first time it collects, later it hands back, in the same order.
    """

    def __init__(self) -> None:
        self._outputs: list[tuple[torch.Tensor, ...]] = []
        self._collected = False

    def __enter__(self) -> None:
        _current.kept = self

    def __exit__(self, *_: object) -> None:
        _current.kept = None
        self._collected = True

    def take(self) -> tuple[torch.Tensor, ...] | None:
        """The next output with what its backward pass needs; None while collecting, and when all are taken."""
        return self._outputs.pop(0) if self._collected and self._outputs else None

    def put(self, output: tuple[torch.Tensor, ...]) -> None:
        """Keep one more."""
        if not self._collected:
            self._outputs.append(tuple(part.detach() for part in output))


class _Current(threading.local):
    """What belongs to the layer that runs now. The backward pass recomputes layers in a thread of its own."""

    kept: KeptOutputs | None = None
    before_backward: Callable[[], None] | None = None


_current = _Current()


@contextlib.contextmanager
def before_attentions_backward(call: Callable[[], None]) -> Iterator[None]:
    """Let each attention in this context call `call` when its backward pass begins."""
    _current.before_backward = call
    try:
        yield
    finally:
        _current.before_backward = None


class FusedAttention(torch.autograd.Function):
    """Query and key [B, H, S, D], value [B, KV, S, V], sinks [H] or None -> [B, S, H, V], causal in each document."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor | None,
        call: Call,
    ) -> torch.Tensor:
        kept = _current.kept
        found = kept.take() if kept is not None else None
        if found is None:
            found = forward(query, key, value, call)
            found = found if sinks is None else _with_sinks(found, sinks.float(), call)
            if kept is not None:
                kept.put(found)
        ctx.save_for_backward(query, key, value, sinks, *found)
        ctx.call, ctx.before = call, _current.before_backward
        return rows_first(found[0], call)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.before is not None:
            ctx.before()
        query, key, value, sinks, *found = ctx.saved_tensors
        of_sinks = None
        if ctx.needs_input_grad[3]:
            out, call = rows_first(found[0], ctx.call).flatten(0, 1), ctx.call
            normalizer = by_token(found[1], call)
            of_sinks = sink_gradient(gradients[0].flatten(0, 1), out, normalizer, sinks.float()).to(sinks.dtype)
        return (
            *backward(gradients[0], (query, key, value), found, ctx.call),
            of_sinks,
            None,
        )


def _with_sinks(found: tuple[torch.Tensor, ...], sinks: torch.Tensor, call: Call) -> tuple[torch.Tensor, ...]:
    """A kernel's output and log-sum-exp with `sinks` among the scores; the rest of what it keeps stays."""
    out, normalizer, *rest = found
    share = share_left(by_token(normalizer, call), sinks)[..., None]
    in_rows = share.unflatten(0, (call.documents.rows, call.documents.length))
    # Heads are the first or second dimension of every kernel's log-sum-exp.
    along = sinks[:, None] if call.kernel != "cudnn" else sinks[:, None, None]
    fitting = {"flash": share, "cudnn": in_rows.transpose(1, 2), "efficient": share[None]}
    return out, joined(out, normalizer, fitting[call.kernel], along), *rest


def fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call, sinks: torch.Tensor | None = None
) -> torch.Tensor:
    """Causal attention within each document: [B, H, S, D], [B, KV, S, D] twice, sinks [H] -> [B, S, H, D]."""
    out: torch.Tensor = FusedAttention.apply(query, key, value, sinks, call)
    return out
