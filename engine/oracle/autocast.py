"""Automatic casts to fp16 as CUDA makes them, on the meta device, whose tensors torch's autocast passes by.

Products take fp16 copies of what they are given. A copy of a trained weight, not of a view of one, is made once and
kept until the context ends (ATen/autocast_mode.h: lower_precision_fp, cached_cast); a checkpointed layer casts anew
when it is recomputed. Operators with `out=` are left alone, as there.

Not here: the operators that autocast runs in fp32, which the engine and these models ask for by themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch.overrides import TorchFunctionMode

_PRODUCTS = frozenset(
    {
        F.linear,
        F.scaled_dot_product_attention,
        torch.matmul,
        torch.mm,
        torch.bmm,
        torch.baddbmm,
        torch.addmm,
        torch.Tensor.matmul,
        torch.Tensor.__matmul__,
        torch.Tensor.mm,
        torch.Tensor.bmm,
    }
)


_SOFTMAX = frozenset({F.softmax, torch.softmax, torch.Tensor.softmax})


class HalfPrecision(TorchFunctionMode):
    """What `torch.autocast("cuda", dtype=torch.float16)` does to products."""

    def __init__(self) -> None:
        super().__init__()
        self._casts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call of torch's Python API."""
        kwargs = kwargs or {}
        if func in _PRODUCTS and "out" not in kwargs:
            args = tuple(self._half(each) for each in args)
            kwargs = {name: self._half(each) for name, each in kwargs.items()}
        if func in _SOFTMAX and args[0].dtype == torch.float16 and kwargs.get("dtype") == torch.float32:
            # SoftMax.cpp: on CUDA no copy is made in between.
            return torch._softmax(args[0], (args[1] if len(args) > 1 else kwargs["dim"]) % args[0].dim(), True)
        return func(*args, **kwargs)

    def __exit__(self, *exception: Any) -> None:
        self._casts.clear()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def _half(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad) or value._is_view():
            return value.to(torch.float16)
        if id(value) not in self._casts:
            self._casts[id(value)] = (value, value.to(torch.float16))
        return self._casts[id(value)][1]


@contextlib.contextmanager
def half_precision() -> Iterator[None]:
    """Run what follows as under autocast; libraries that ask are told so."""
    plain = torch.utils.checkpoint.checkpoint
    again = mock.patch.object(torch.utils.checkpoint, "checkpoint", partial(_checkpointed, plain))
    # Parts that are formed again (a head called as a module) are cast again too.
    with mock.patch.object(torch, "is_autocast_enabled", _enabled), again, HalfPrecision():
        yield


def recompute_in_half_precision(model: Any) -> None:
    """Checkpointed layers of `model` enter autocast again where they are recomputed, as torch's checkpoint does."""
    for module in model.modules():
        original = getattr(module, "_gradient_checkpointing_func", None)
        if original is not None:
            module._gradient_checkpointing_func = partial(_checkpointed, original)


def _checkpointed(original: Callable[..., Any], function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    def inside(*given: Any) -> Any:
        # The forward pass is in its context already, whose casts it shares.
        if torch.is_autocast_enabled():
            return function(*given)
        with half_precision():
            return function(*given)

    return original(inside, *arguments, **options)


def _enabled(*_: Any) -> bool:
    return True
