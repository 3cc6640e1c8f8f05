"""4-bit matrices as dense ones, for one product each: unpacked, and their nested scales with them, in one pass.

bitsandbytes stores two values a byte (the first in the high half), one scale for 64 of them, and with double
quantization that scale as a byte with an fp32 scale for 256 of them and one offset (bitsandbytes/functional.py,
QuantState). Its own kernels take three launches and two fp32 tensors for the nested scales; on a GPU with Triton one
launch reads the packed bytes and writes the matrix. Anything else goes through bitsandbytes itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from engine.modeling import gpu_programs


def takes(base: torch.nn.Module, x: torch.Tensor) -> bool:
    """Whether `base` is bitsandbytes' 4-bit linear layer, packed, in its common layout."""
    if type(base).__name__ != "Linear4bit" or (base.bias is not None and base.bias.dtype != x.dtype):
        return False
    state = getattr(base.weight, "quant_state", None)
    plain = not getattr(base, "support_avx512bf16_for_cpu", False) or x.is_cuda or x.is_meta
    return state is not None and plain and state.dtype == x.dtype


def dequantized(weight: Any, dtype: torch.dtype) -> torch.Tensor:
    """The matrix [out, in] that `weight` (a Params4bit with its quant_state) packs, as `dtype`."""
    state = weight.quant_state
    if weight.is_cuda and dtype == state.dtype and gpu_programs.available():
        return gpu_programs.unpack_four_bit(weight.data, state)
    return _by_bitsandbytes(weight, state)


def _by_bitsandbytes(weight: Any, state: Any) -> torch.Tensor:
    found: torch.Tensor = _functional().dequantize_4bit(weight.data, state)
    return found


@lru_cache(maxsize=1)
def _functional() -> Any:
    import bitsandbytes.functional

    return bitsandbytes.functional
