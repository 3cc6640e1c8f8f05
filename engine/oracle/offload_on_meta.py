"""Stand-in for inputs that wait in host memory: they leave the device when parked and are made anew when fetched.

What is on the device at once is as `engine.modeling.offload` has it: the input in use and the one ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from engine.modeling import offload


@contextmanager
def offload_on_meta() -> Iterator[None]:
    """Let `Offload` park tensors of the meta device, without streams or host memory."""
    with (
        mock.patch.object(offload.Offload, "park", _park),
        mock.patch.object(offload.Offload, "_start", _start),
        mock.patch.object(torch.cuda, "current_stream", _stream),
    ):
        yield


class _Stream:
    """Of a device that nothing runs on."""

    def wait_event(self, event: Any) -> None:
        """Nothing is waited for."""


def _stream(*_: Any) -> _Stream:
    return _Stream()


def _park(self: Any, tensor: torch.Tensor) -> Any:
    size = tensor.numel() * tensor.element_size()
    if not tensor.is_floating_point() or size < offload.SMALLEST_BYTES:
        return tensor
    slot = offload._Slot(torch.empty(0, dtype=torch.uint8))
    self._last = offload._Parked(self, slot, tensor.shape, tensor.dtype, tensor.device, self._last, None)
    return self._last


def _start(_: Any, parked: Any) -> None:
    if parked.back is None:
        parked.back = torch.empty(parked.shape, dtype=parked.dtype, device=parked.device)
