"""Inputs of recomputed layers wait in pinned host memory while the forward and the backward pass are elsewhere.

A checkpointed layer keeps nothing but its input. Here that input is copied to the host on a stream of its own while the
next layers compute, and comes back on another, ahead of its use: when the layer above it reaches its attention, whose
feed-forward part, the widest moment of a layer, is over then. Copies hide behind the layers' products. Host buffers are
made once and used again in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

SMALLEST_BYTES = 1024 * 1024
"""What is smaller stays on the card: a copy would cost more than it frees."""

Warn = Callable[[str, str], None]


class HostBuffers:
    """Pinned buffers that are handed out and taken back; never more than were in use at once."""

    def __init__(self, warn: Warn) -> None:
        self._free: dict[int, list[_Slot]] = {}
        self._warn = warn
        self.pinned = True
        self.total_bytes = 0

    def take(self, size_bytes: int) -> _Slot:
        """A free buffer of exactly `size_bytes`, or a new one."""
        free = self._free.setdefault(size_bytes, [])
        return free.pop() if free else _Slot(self._new(size_bytes))

    def give(self, slot: _Slot) -> None:
        """Take a buffer back; whoever fills it next waits for the last read of it."""
        self._free.setdefault(slot.buffer.numel(), []).append(slot)

    def _new(self, size_bytes: int) -> torch.Tensor:
        self.total_bytes += size_bytes
        if self.pinned:
            try:
                return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
            except RuntimeError as error:
                self.pinned = False
                reason = (str(error).splitlines() or ["unknown"])[0]
                self._warn("offload_not_pinned", f"host memory cannot be pinned: copies will hold steps up ({reason})")
        return torch.empty(size_bytes, dtype=torch.uint8)


@dataclass(slots=True)
class _Slot:
    buffer: torch.Tensor
    read: Any = None
    """Event after the last copy out of the buffer."""


@dataclass(slots=True, eq=False)
class _Parked:
    """One input on the host. `back` is the tensor that is on its way to the card, with the event of its arrival."""

    owner: Offload
    slot: _Slot
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    before: _Parked | None
    """The input that was parked just before this one: the next that the backward pass asks for."""
    written: Any
    back: torch.Tensor | None = None
    arrived: Any = None
    released: bool = field(default=False)

    def __del__(self) -> None:
        """A pass that broke off never asks for its inputs."""
        self.release()

    def release(self) -> None:
        """Give the buffer back, once."""
        if not self.released:
            self.released = True
            self.owner.buffers.give(self.slot)


class Offload:
    """Parks inputs in the order of the forward pass and fetches them in the opposite one; for one device."""

    def __init__(self, warn: Warn) -> None:
        self.buffers = HostBuffers(warn)
        self._last: _Parked | None = None
        self._leaving: tuple[torch.Tensor, Any] | None = None
        self._out: Any = None
        self._in: Any = None

    def park(self, tensor: torch.Tensor) -> Any:
        """`tensor` on the host; small ones, and those that are no activations, as they are."""
        size = tensor.numel() * tensor.element_size()
        if not tensor.is_cuda or not tensor.is_floating_point() or size < SMALLEST_BYTES:
            return tensor
        self._streams(tensor.device)
        self.settle()
        slot = self.buffers.take(size)
        written = self._copy_out(tensor, slot)
        self._leaving = (tensor, written)
        self._last = _Parked(self, slot, tensor.shape, tensor.dtype, tensor.device, self._last, written)
        return self._last

    def fetch(self, parked: Any) -> torch.Tensor:
        """The tensor again."""
        if not isinstance(parked, _Parked):
            found: torch.Tensor = parked
            return found
        self.settle()
        self._start(parked)
        torch.cuda.current_stream(parked.device).wait_event(parked.arrived)
        back, parked.back = parked.back, None
        assert back is not None
        parked.release()
        before, parked.before = parked.before, None
        if self._last is parked:
            self._last = before
        return back

    def settle(self) -> None:
        """Let go of the input that left last, which the compute stream waits for.

        It had a layer's time, so the wait is over at once; without it the allocator would have to keep the memory of
        each input aside until the host sees its copy end, and the host is many layers ahead.
        """
        if self._leaving is not None:
            tensor, written = self._leaving
            self._leaving = None
            torch.cuda.current_stream(tensor.device).wait_event(written)

    def start_next(self) -> None:
        """Let the input that the backward pass needs next set out."""
        if self._last is not None and not self._last.released:
            self._start(self._last)

    def _streams(self, device: torch.device) -> None:
        if self._out is None:
            self._out, self._in = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def _copy_out(self, tensor: torch.Tensor, slot: _Slot) -> Any:
        self._out.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._out):
            if slot.read is not None:
                self._out.wait_event(slot.read)
            _view(slot, tensor.shape, tensor.dtype).copy_(tensor, non_blocking=True)
        return self._out.record_event()

    def _start(self, parked: _Parked) -> None:
        if parked.back is not None:
            return
        compute = torch.cuda.current_stream(parked.device)
        parked.back = torch.empty(parked.shape, dtype=parked.dtype, device=parked.device)
        # Memory that the allocator hands out may still be read by kernels that were launched before.
        self._in.wait_stream(compute)
        self._in.wait_event(parked.written)
        with torch.cuda.stream(self._in):
            parked.back.copy_(_view(parked.slot, parked.shape, parked.dtype), non_blocking=True)
        parked.arrived = parked.slot.read = self._in.record_event()


def _view(slot: _Slot, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    return slot.buffer.view(dtype).view(shape)
