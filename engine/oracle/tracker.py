"""Counts every storage that operators make, from its first tensor to its death, as the allocator would.

A TorchDispatchMode sees each operator's outputs; a weak reference to the storage tells when it dies. What a
CUDA kernel takes inside itself no operator shows: `scratch` names it. Not here: what a step consists of.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.memory.allocator import Event, rounded
from engine.oracle import remembered

Scratch = Callable[..., Sequence[int]]
"""From an operator's arguments to the sizes in bytes that its kernel takes while it runs."""
Replacement = Callable[..., Any]
"""Stands in for an operator that has no meta kernel."""


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Live and peak bytes by section, and the trace of allocations for `engine.memory.allocator`."""

    def __init__(
        self,
        scratch: dict[str, Scratch] | None = None,
        replacements: dict[str, Replacement] | None = None,
        late_scratch: dict[str, Scratch] | None = None,
    ) -> None:
        """`scratch` is taken before an operator's outputs, `late_scratch` after them."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace: list[Event] = []
        self.live_bytes = self.peak_bytes = 0
        self.peaks: dict[str, int] = {}
        self.peak_contents: dict[str, list[tuple[int, str]]] = {}
        self.keep_contents = False
        self._section = "load"
        self._section_peak = 0
        self._scratch, self._replacements, self._late = scratch or {}, replacements or {}, late_scratch or {}
        self._live: dict[int, tuple[int, int, weakref.ref[Any], str]] = {}
        self._last_id = 0

    def section(self, name: str) -> None:
        """What follows belongs to `name`; a name that comes again keeps its highest peak."""
        self.peaks[self._section] = max(self.peaks.get(self._section, 0), self._section_peak)
        self._section, self._section_peak = name, max(self.live_bytes, self.peaks.get(name, 0))

    def add(self, tensor: torch.Tensor, name: str = "") -> None:
        """Count `tensor`'s storage, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        size = storage.nbytes()
        if size == 0 or tensor.device.type == "cpu":
            return
        size, identity = rounded(size), self._take(size)
        self._live[key] = (size, identity, weakref.ref(storage, self._watch(key, identity)), name)
        self._note_peak()

    def identity(self, tensor: torch.Tensor) -> int:
        """What `tensor`'s storage is called in the trace. Raises KeyError for one that was never counted."""
        return self._live[tensor.untyped_storage()._cdata][1]

    def hold(self, size_bytes: int) -> None:
        """Count memory that some library takes once and never gives back."""
        if size_bytes:
            self._take(size_bytes)
            self._note_peak()

    def _watch(self, key: int, identity: int) -> Callable[[Any], None]:
        def died(_: Any) -> None:
            found = self._live.get(key)
            if found is not None and found[1] == identity:
                del self._live[key]
                self._give(identity, found[0])

        return died

    def _take(self, size_bytes: int) -> int:
        self._last_id += 1
        size = rounded(size_bytes)
        self.trace.append((self._last_id, size))
        self.live_bytes += size
        return self._last_id

    def _give(self, identity: int, size: int) -> None:
        self.live_bytes -= size
        self.trace.append((-identity, 0))

    def _note_peak(self) -> None:
        if self.live_bytes > self._section_peak:
            self._section_peak = self.live_bytes
            if self.keep_contents:
                self.peak_contents[self._section] = [(size, name) for size, _, _, name in self._live.values()]
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and count what it made."""
        kwargs = kwargs or {}
        name = func._schema.name
        taken = self._taken(self._scratch.get(name), args, kwargs)
        stand_in = self._replacements.get(name)
        out = stand_in(*args, **kwargs) if stand_in else remembered.run(func, args, kwargs)
        for tensor in _tensors(out):
            self.add(tensor, name)
        taken += self._taken(self._late.get(name), args, kwargs)
        if taken:
            self._note_peak()
            for identity, size in taken:
                self._give(identity, size)
        return out

    def _taken(self, wanted: Scratch | None, args: Any, kwargs: Any) -> list[tuple[int, int]]:
        """Identities and sizes of what `wanted` asks for."""
        return [(self._take(size), rounded(size)) for size in wanted(*args, **kwargs)] if wanted else []


def _tensors(out: Any) -> Iterator[torch.Tensor]:
    if isinstance(out, torch.Tensor):
        yield out
    elif isinstance(out, list | tuple):
        for part in out:
            yield from _tensors(part)


def model_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, buffers and the tensors of bitsandbytes' quantization states."""
    for name, parameter in model.named_parameters():
        yield name, parameter
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            nested = state.state2
            parts = [state.absmax, state.code]
            parts += [nested.absmax, nested.code, state.offset] if nested is not None else []
            yield from ((f"{name}.scales", part) for part in parts)
        row_scales = getattr(parameter, "SCB", None)
        if isinstance(row_scales, torch.Tensor):
            yield f"{name}.scales", row_scales
    yield from model.named_buffers()
