"""Lets the engine's CUDA code paths run on the meta device: patches that last while a step is simulated.

Each says which check it answers. They apply in the oracle's own process only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from engine.oracle.flex_on_meta import flex_on_meta
from engine.oracle.liger_on_meta import kernels_on_meta
from engine.oracle.offload_on_meta import offload_on_meta
from engine.oracle.paged_on_meta import paged_on_meta


@contextlib.contextmanager
def as_on_cuda(kernel: str) -> Iterator[None]:
    """Run what follows as on a GPU; `kernel` as in `engine.memory.device.attention_kernel`."""
    import transformers.masking_utils

    from engine.modeling import attention, attention_kernels

    with contextlib.ExitStack() as stack:
        card = _ampere if kernel in ("varlen", "flex") else _turing
        stack.enter_context(mock.patch.object(attention_kernels, "capability", card))
        stack.enter_context(mock.patch.object(attention, "capability", card))
        # Asks for values, which meta tensors have none of; the engine's attention takes document borders instead.
        stack.enter_context(mock.patch.object(transformers.masking_utils, "find_packed_sequence_indices", _no_packing))
        # torch knows the fused optimizer's shapes on meta, but refuses the device by name.
        stack.enter_context(mock.patch("torch.optim.adam._device_dtype_check_for_fused", _allow))
        # CUDA's dropout keeps a mask of one byte; meta falls back to the processor's, which keeps a scaled one.
        stack.enter_context(mock.patch.object(F, "dropout", _fused_dropout))
        # cuDNN's kernel keeps what flash attention does, and is asked for values first.
        stack.enter_context(mock.patch.object(attention_kernels, "has_cudnn", _never))
        for stand_ins in (flex_on_meta, offload_on_meta, kernels_on_meta, paged_on_meta):
            stack.enter_context(stand_ins())
        yield


def _fused_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def _ampere(_: torch.Tensor) -> tuple[int, int]:
    return 8, 0


def _turing(_: torch.Tensor) -> tuple[int, int]:
    return 7, 5


def _never(*_: Any) -> bool:
    return False


def _no_packing(*_: Any, **__: Any) -> None:
    return None


def _allow(*_: Any, **__: Any) -> None:
    return None
