"""A processor stands in for a device: finds what would make the host wait for one.

Tensors count as the device's when they are marked, or made from such a tensor. Operators whose result the host must
read, or whose result's shape depends on values, are noted when they take one. Copies from host to device cannot be seen
here; `tests/gpu` has torch's own check of a real card.
"""

from __future__ import annotations

import traceback
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default: "a number is read",
    aten.item.default: "a number is read",
    aten.is_nonzero.default: "a truth value is read",
    aten.equal.default: "tensors are compared",
    aten.nonzero.default: "positions are searched",
    aten.masked_select.default: "a mask chooses",
    aten._unique2.default: "values are counted",
    aten.unique_consecutive.default: "values are counted",
    aten.repeat_interleave.Tensor: "a size depends on values",
}


class DeviceWatch(TorchDispatchMode):
    """While `watching`, notes in `found` where the host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = False
        self.found: list[str] = []
        self._marked: dict[int, StorageWeakRef] = {}

    def mark(self, *tensors: torch.Tensor) -> None:
        """These lie on the device."""
        for tensor in tensors:
            reference = StorageWeakRef(tensor.untyped_storage())
            self._marked[reference.cdata] = reference

    def _is_marked(self, tensor: torch.Tensor) -> bool:
        reference = self._marked.get(tensor.untyped_storage()._cdata)
        return reference is not None and not reference.expired()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, torch.Tensor)]
        on_device = any(self._is_marked(each) for each in inputs)
        if on_device and self.watching:
            reason = WAITING.get(func) or _mask_index(func, inputs)
            if reason:
                place = [line for line in traceback.format_stack() if "/engine/" in line or "transformers" in line]
                self.found.append(f"{reason}: {func}\n{''.join(place[-3:])}")
        result = func(*args, **(kwargs or {}))
        if on_device:
            self.mark(*(each for each in tree_leaves(result) if isinstance(each, torch.Tensor)))
        return result


def _mask_index(func: Any, inputs: list[torch.Tensor]) -> str:
    chosen = func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)
    return "a mask chooses" if chosen and any(each.dtype == torch.bool for each in inputs[1:]) else ""
