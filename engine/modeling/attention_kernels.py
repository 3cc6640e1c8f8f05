"""Fused attention kernels of a GPU over packed documents, as one autograd function over torch's own operators.

`flash` takes documents of any length by their offsets, and grouped heads as they are (Ampere and newer, 16-bit, heads
up to 256). `cudnn` is the fastest where every row is one document, on Hopper and Blackwell. `efficient` is the
memory-efficient kernel with offsets, for fp32, older cards and wider heads; its keys are repeated for every query head.
None of them builds a square of scores, and none asks the card for a size. Value heads may be narrower than the others
(latent attention): `efficient` takes them so, `flash` with zeros beside them that nothing keeps. Not here: soft caps,
processors, and which call belongs to which layer (`attention.py`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F

from engine.memory.device import UNEVEN_SHARE, efficient_block
from engine.modeling.attention_sinks import joined, share_left, sink_gradient

Kernel = Literal["flash", "cudnn", "efficient"]

FLASH_HEAD_DIM, CUDNN_HEAD_DIM = 256, 128
"""Widest heads with a backward pass."""
_CUDNN_VERSION = 91501
"""From here on cuDNN's training kernels are what torch itself prefers on these cards (aten/sdp_utils.cpp)."""
_CAUSAL_FROM_TOP_LEFT = 1
"""`custom_mask_type` of the memory-efficient kernel."""
_PROBE_TOKENS = 128
_PROBE_SHARE = 0.02
"""Largest difference of cuDNN's probe from flash attention's, as a share of the norm; rounding takes 0.005."""
_COMPARED: tuple[Kernel, Kernel] = ("cudnn", "flash")


@dataclass(frozen=True, slots=True)
class Documents:
    """Where documents lie in a batch of `rows` x `length` tokens, flattened."""

    offsets: torch.Tensor
    """int32 [documents + 1], on the device."""
    longest: int
    rows: int
    length: int
    lengths: tuple[int, ...] = ()
    """Of each document, where the host knows them; a kernel that needs them takes all in one call otherwise."""

    @property
    def one_a_row(self) -> bool:
        """Whether every row is exactly one document; known from sizes alone."""
        return self.offsets.shape[0] - 1 == self.rows and self.longest == self.length


def capability(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Compute capability of the card that holds `tensor`; None on a processor."""
    return torch.cuda.get_device_capability(tensor.device) if tensor.is_cuda else None


@dataclass(frozen=True, slots=True)
class Run:
    """Documents that follow each other and go through one call of the memory-efficient kernel."""

    first: int
    end: int
    tokens: slice
    longest: int

    def offsets(self, documents: Documents) -> torch.Tensor:
        """Where they begin, counted from the first."""
        if self.tokens == slice(None):
            return documents.offsets
        return documents.offsets[self.first : self.end + 1] - self.tokens.start


def runs_of(documents: Documents, width: int) -> list[Run]:
    """All documents in runs of similar length.

    The kernel's backward pass gives each document of a call as many blocks of fp32 rows as the longest has: one long
    document among a hundred short ones would take a hundred times its share. In a run it takes at most
    `UNEVEN_SHARE` times what its documents' own blocks would. Packed rows have their longest documents first.
    """
    lengths, count = documents.lengths, documents.offsets.shape[0] - 1
    if len(lengths) != count or sum(lengths) != documents.rows * documents.length:
        return [Run(0, count, slice(None), documents.longest)]
    block, found = efficient_block(width), []
    first = start = at = own = most = longest = 0
    for number, length in enumerate(lengths):
        rows = -(-length // block) * block
        if number > first and (number + 1 - first) * max(most, rows) > UNEVEN_SHARE * (own + rows):
            found.append(Run(first, number, slice(start, at), longest))
            first, start, own, most, longest = number, at, 0, 0, 0
        at, own, most, longest = at + length, own + rows, max(most, rows), max(longest, length)
    whole = [Run(0, count, slice(None), longest)]
    return [*found, Run(first, count, slice(start, at), longest)] if found else whole


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
        found = _FORWARD[call.kernel](query, key, value, call)
        out = _rows_first(found[0], call)
        return [out, *_BACKWARD[call.kernel](torch.ones_like(out), query, key, value, found, call)]


@dataclass(frozen=True, slots=True)
class Call:
    """One layer's attention: which kernel, over which documents, and how scores are formed."""

    kernel: Kernel
    documents: Documents
    scale: float
    window: int | None = None
    """Tokens that one may look back, itself counted."""


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
            found = _forward(query, key, value, call)
            found = found if sinks is None else _with_sinks(found, sinks.float(), call)
            if kept is not None:
                kept.put(found)
        ctx.save_for_backward(query, key, value, sinks, *found)
        ctx.call, ctx.before = call, _current.before_backward
        return _rows_first(found[0], call)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.before is not None:
            ctx.before()
        query, key, value, sinks, *found = ctx.saved_tensors
        of_sinks = None
        if ctx.needs_input_grad[3]:
            out, call = _rows_first(found[0], ctx.call).flatten(0, 1), ctx.call
            normalizer = _by_token(found[1], call)
            of_sinks = sink_gradient(gradients[0].flatten(0, 1), out, normalizer, sinks.float()).to(sinks.dtype)
        return (
            *_backward(gradients[0], (query, key, value), found, ctx.call),
            of_sinks,
            None,
        )


def _with_sinks(found: tuple[torch.Tensor, ...], sinks: torch.Tensor, call: Call) -> tuple[torch.Tensor, ...]:
    """A kernel's output and log-sum-exp with `sinks` among the scores; the rest of what it keeps stays."""
    out, normalizer, *rest = found
    share = share_left(_by_token(normalizer, call), sinks)[..., None]
    in_rows = share.unflatten(0, (call.documents.rows, call.documents.length))
    # Heads are the first or second dimension of every kernel's log-sum-exp.
    along = sinks[:, None] if call.kernel != "cudnn" else sinks[:, None, None]
    fitting = {"flash": share, "cudnn": in_rows.transpose(1, 2), "efficient": share[None]}
    return out, joined(out, normalizer, fitting[call.kernel], along), *rest


def _by_token(normalizer: torch.Tensor, call: Call) -> torch.Tensor:
    """A kernel's log-sum-exp as [B * S, H]."""
    if call.kernel == "flash":
        return normalizer.transpose(0, 1)
    if call.kernel == "cudnn":
        return normalizer.squeeze(-1).transpose(1, 2).flatten(0, 1)
    offsets = call.documents.offsets
    tokens = torch.arange(call.documents.rows * call.documents.length, device=offsets.device)
    owners = torch.bucketize(tokens, offsets[1:], right=True)
    return normalizer[owners, :, tokens - offsets[owners]]


def _forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> tuple[torch.Tensor, ...]:
    missing = _missing(query, value, call)
    out, *others = _FORWARD[call.kernel](query, key, widened(value, missing), call)
    return (out[..., : value.shape[-1]].contiguous() if missing else out, *others)


def _backward(
    grad: torch.Tensor, parts: Sequence[torch.Tensor], found: Sequence[torch.Tensor], call: Call
) -> tuple[torch.Tensor, ...]:
    query, key, value = parts
    grad, wide, out = (widened(each, _missing(query, value, call)) for each in (grad, value, found[0]))
    gradients = _BACKWARD[call.kernel](grad, query, key, wide, (out, *found[1:]), call)
    return (*gradients[:2], gradients[2][..., : value.shape[-1]])


def _missing(query: torch.Tensor, value: torch.Tensor, call: Call) -> int:
    """Features that a value head lacks where the kernel wants all heads of one width."""
    return 0 if call.kernel == "efficient" else query.shape[-1] - value.shape[-1]


def widened(heads: torch.Tensor, missing: int) -> torch.Tensor:
    """`heads` with that many zeros behind each; the tensor itself where none are missing."""
    return F.pad(heads, (0, missing)) if missing else heads


def _rows_first(out: torch.Tensor, call: Call) -> torch.Tensor:
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


_FORWARD = {"flash": _flash_forward, "cudnn": _cudnn_forward, "efficient": _efficient_forward}
_BACKWARD = {"flash": _flash_backward, "cudnn": _cudnn_backward, "efficient": _efficient_backward}


def fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call, sinks: torch.Tensor | None = None
) -> torch.Tensor:
    """Causal attention within each document: [B, H, S, D], [B, KV, S, D] twice, sinks [H] -> [B, S, H, D]."""
    out: torch.Tensor = FusedAttention.apply(query, key, value, sinks, call)
    return out
