"""Lets the engine's CUDA code paths run on the meta device: patches that last while a step is simulated.

Each says which check it answers. Used by `simulate.py`, in the oracle's own process only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_IS_CUDA = torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]


class LikeCuda(TorchFunctionMode):
    """Tensors say that they are on CUDA; fused attention is the memory-efficient kernel (fp32, or before Ampere)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call of torch's Python API."""
        if func == _IS_CUDA:
            return True
        if func is F.scaled_dot_product_attention:
            return _efficient(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]


@contextlib.contextmanager
def as_on_cuda(kernel: str) -> Iterator[None]:
    """Run what follows as on a GPU; `kernel` as in `engine.memory.device.attention_kernel`."""
    import transformers.masking_utils

    from engine.modeling import attention, attention_kernels

    with contextlib.ExitStack() as stack:
        varlen = kernel == "varlen"
        card = _ampere if varlen else _turing
        stack.enter_context(mock.patch.object(attention_kernels, "capability", card))
        stack.enter_context(mock.patch.object(attention, "capability", card))
        # Asks for values, which meta tensors have none of; the engine's attention takes document borders instead.
        stack.enter_context(mock.patch.object(transformers.masking_utils, "find_packed_sequence_indices", _no_packing))
        # torch knows the fused optimizer's shapes on meta, but refuses the device by name.
        stack.enter_context(mock.patch("torch.optim.adam._device_dtype_check_for_fused", _allow))
        # CUDA's dropout keeps a mask of one byte; meta falls back to the processor's, which keeps a scaled one.
        stack.enter_context(mock.patch.object(F, "dropout", _fused_dropout))
        if not varlen:
            stack.enter_context(mock.patch.object(attention, "_document", _under_mode(attention._document)))
        yield


def _under_mode(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under the mode, wherever it is called from: recomputation in the backward pass would lose it."""

    def inside(*arguments: Any) -> Any:
        with LikeCuda():
            return function(*arguments)

    return inside


def _fused_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def _ampere(_: torch.Tensor) -> tuple[int, int]:
    return 8, 0


def _turing(_: torch.Tensor) -> tuple[int, int]:
    return 7, 5


def _no_packing(*_: Any, **__: Any) -> None:
    return None


def _allow(*_: Any, **__: Any) -> None:
    return None
