"""Fake tensors on a CUDA device, what stands in for values that they do not have, and which kernels were called.

A fake tensor has a device, a dtype and a shape; torch's own code runs up to the kernel, chooses it as on the card and
checks what it is given. What depends on values is given here, each with its reason. Imported in the process that has
the stand-in card only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import bitsandbytes
import torch
from torch._subclasses import fake_tensor
from torch.nn.attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

from engine.modeling import attention_flex, attention_kernels, gpu_programs
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_operators import Call
from engine.oracle.kernels import REPLACEMENTS, int8_operators
from engine.oracle.liger_on_meta import kernels_on_meta

_KERNELS = {
    "_flash_attention_forward": "flash",
    "_scaled_dot_product_cudnn_attention": "cudnn",
    "_efficient_attention_forward": "efficient",
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_softmax": "squares",
    "flex_attention": "flex",
}
"""Operators of attention by name, and what a table calls them; `squares` holds every score at once."""


def _nothing(*_: Any) -> None:
    return None


_NO_OUTLIERS = int8_operators(0, 0, 0)[1]
_STAND_INS = {**REPLACEMENTS, **_NO_OUTLIERS, "aten::record_stream": _nothing}


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes attention's kernels; operators whose result depends on values get the most that they can give."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        schema = getattr(func, "_schema", None)
        # Operators of a higher order, such as flex attention's, have a name alone.
        full = schema.name if schema is not None else f"higher::{func.name()}"
        name = full.partition("::")[2]
        if name in _KERNELS and _KERNELS[name] not in self.kernels:
            self.kernels.append(_KERNELS[name])
        stand_in = _STAND_INS.get(full)
        return (stand_in or func)(*args, **(kwargs or {}))


@contextmanager
def on_card(lengths: Sequence[int]) -> Iterator[Watch]:
    """Run what follows on fake tensors of the card."""
    with ExitStack() as stack:
        # It would allocate a real tensor to wake the card.
        stack.enter_context(mock.patch.object(fake_tensor, "init_gpu_context", _nothing))
        # Compares two kernels by their values; here each is run for its shapes.
        stack.enter_context(mock.patch.object(attention_kernels, "_cudnn_agrees", lru_cache(both_kernels_run)))
        # Compiling needs a card; the operator that would be compiled has a fake form.
        stack.enter_context(mock.patch.object(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True))
        stack.enter_context(mock.patch.object(attention_flex, "_flex", _plain_flex))
        stack.enter_context(mock.patch.dict(attention_flex._last_blocks, clear=True))
        # A subclass of Parameter cannot hold a fake tensor.
        for name in ("Params4bit", "Int8Params"):
            stack.enter_context(mock.patch.object(bitsandbytes.nn, name, _packed))
            stack.enter_context(mock.patch.object(bitsandbytes.nn.modules, name, _packed))
        # Module.to exchanges fake tensors, which it refuses while anything refers to them.
        stack.enter_context(mock.patch.object(torch.utils, "swap_tensors", _take_data))
        # Triton programs launch on a card only.
        stack.enter_context(mock.patch.object(gpu_programs, "unpack_four_bit", _unpacked))
        stack.enter_context(kernels_on_meta())
        stack.enter_context(fake_tensor.FakeTensorMode(allow_non_fake_inputs=True))
        # Attention without a kernel cuts the batch by the documents' lengths.
        stack.enter_context(mock.patch.object(fake_tensor.FakeTensor, "tolist", _known(lengths)))
        yield stack.enter_context(Watch())


def both_kernels_run(groups: int, width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """As `attention_kernels._cudnn_agrees`, without the values."""
    shapes = [(2, heads, 128, width) for heads in (2 * groups, 2, 2)]
    parts = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
    offsets = torch.empty(3, dtype=torch.int32, device=device)
    documents = Documents(offsets, 128, 2, 128)
    for kernel in ("cudnn", "flash"):
        call = Call(kernel, documents, width**-0.5)
        found = attention_kernels._with_gradients(parts, call)
        if [each.shape for each in found[1:]] != [part.shape for part in parts]:
            raise AssertionError(f"{kernel} gives gradients of {[tuple(each.shape) for each in found[1:]]}")
    return True


def _plain_flex() -> Any:
    return flex_attention.flex_attention


def _known(lengths: Sequence[int]) -> Callable[[Any], list[int]]:
    def tolist(self: Any) -> list[int]:
        return list(lengths)

    return tolist


def _packed(data: torch.Tensor, requires_grad: bool = False, **facts: Any) -> torch.nn.Parameter:
    """Packed weights as a plain parameter with the attributes that bitsandbytes reads."""
    made = torch.nn.Parameter(data, requires_grad=False)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def _take_data(target: torch.Tensor, source: torch.Tensor) -> None:
    target.data = source.detach()


def _unpacked(packed: torch.Tensor, state: Any) -> torch.Tensor:
    return torch.empty(state.shape, dtype=state.dtype, device=packed.device)
