"""A Triton program that unpacks bitsandbytes' 4-bit matrices with their nested scales. Imports Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_GROUPS = 32
"""Groups of 64 values a program unpacks: 1 KiB read, 4 KiB written."""


@triton.jit  # type: ignore[untyped-decorator]
def _unpack(packed, code, scales, nested_scales, nested_code, offset, out, groups, GROUPS: tl.constexpr, HALF: tl.constexpr, NESTED: tl.constexpr, NESTED_GROUP: tl.constexpr):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    inside = group < groups
    scale = tl.load(scales + group, mask=inside, other=0)
    if NESTED:
        outer = tl.load(nested_scales + group // NESTED_GROUP, mask=inside, other=0.0)
        scale = tl.load(nested_code + scale.to(tl.int32), mask=inside, other=0.0) * outer + tl.load(offset)
    at = group[:, None] * HALF + tl.arange(0, HALF)[None, :]
    byte = tl.load(packed + at, mask=inside[:, None], other=0).to(tl.int32)
    high = tl.load(code + (byte >> 4)) * scale[:, None]
    low = tl.load(code + (byte & 15)) * scale[:, None]
    values = tl.interleave(high, low)
    to = group[:, None] * (2 * HALF) + tl.arange(0, 2 * HALF)[None, :]
    tl.store(out + to, values.to(out.dtype.element_ty), mask=inside[:, None])


def unpack(packed: torch.Tensor, state: Any, out: torch.Tensor) -> None:
    """Fill `out` [rows, columns], contiguous, from `packed` (uint8) and the scales in `state`."""
    nested = state.state2
    groups = out.numel() // state.blocksize
    _unpack[(triton.cdiv(groups, _GROUPS),)](
        packed,
        state.code,
        state.absmax,
        nested.absmax if nested is not None else state.absmax,
        nested.code if nested is not None else state.code,
        state.offset if nested is not None else state.code,
        out,
        groups,
        GROUPS=_GROUPS,
        HALF=state.blocksize // 2,
        NESTED=nested is not None,
        NESTED_GROUP=nested.blocksize if nested is not None else 1,
        # bitsandbytes rounds between the product and the sum of a nested scale; so every value is the same.
        enable_fp_fusion=False,
    )
