"""Triton programs of our own, imported when a GPU first needs one. Not here: those of liger-kernel (`liger.py`)."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether Triton is installed; torch for CUDA on Linux brings it."""
    return find_spec("triton") is not None


def unpack_four_bit(packed: torch.Tensor, state: Any) -> torch.Tensor:
    """The matrix of a bitsandbytes QuantState as `state.dtype`, `state.shape`, in one launch."""
    from engine.modeling import triton_four_bit

    out = torch.empty(state.shape, dtype=state.dtype, device=packed.device)
    triton_four_bit.unpack(packed, state, out)
    return out
