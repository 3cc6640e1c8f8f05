"""How transformers and PEFT put a model on the card, in the order in which memory is taken and given back.

What loading leaves in the allocator's cache is part of a run's reserved memory. Facts from the sources of
transformers 5.0 and 5.17 (core_model_loading.py, modeling_utils.py), PEFT 0.19 and 0.20 (utils/other.py)
and bitsandbytes 0.50 (backends/cuda/ops.py); none was fitted.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.oracle.tracker import StorageTracker

LOADER_THREADS = 4
"""GLOBAL_WORKERS of core_model_loading.py. Tensors come in the order of their names; how many wait on the card is a
matter of timing: nothing in the source bounds it."""


def load_model(model: Any, tracker: StorageTracker, *, threads: int) -> int | None:
    """Load the base, `threads` tensors ahead of the one in work, then the adapters.

    Returns the position in the trace where PEFT 0.20 empties the cache.
    """
    base = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): parameter
        for name, parameter in model.named_parameters()
        if "lora_" not in name
    }
    emptied = None
    if any(_is_packed(parameter) for parameter in base.values()):
        emptied = _load_packed(base, tracker, threads)
        for _, buffer in model.named_buffers():
            tracker.add(buffer)
    else:
        for parameter in [*base.values(), *model.buffers()]:
            tracker.add(parameter)
    _attach_adapters(model, tracker, halves=emptied is None)
    return emptied


def _load_packed(base: dict[str, Any], tracker: StorageTracker, threads: int) -> int:
    """Quantize while loading, then cast the rest to fp32 (prepare_model_for_kbit_training)."""
    # caching_allocator_warmup takes the packed model's size in one block and frees it at once.
    warm = _taken(tracker, sum(p.numel() if _is_packed(p) else 2 * p.numel() for p in base.values()))
    del warm
    order = sorted(base.items(), key=lambda item: _natural_key(item[0]))
    halves: dict[str, torch.Tensor] = {}

    def arrive(position: int) -> None:
        if position < len(order):
            name, parameter = order[position]
            halves[name] = _taken(tracker, (4 if _is_packed(parameter) else 2) * parameter.numel())

    for ahead in range(threads):
        arrive(ahead)
    for position, (name, parameter) in enumerate(order):
        arrive(position + threads)
        if _is_packed(parameter):
            for part in (parameter.quant_state.absmax, parameter.data, parameter.quant_state.code):
                tracker.add(part)
            del halves[name]
    for name, parameter in base.items():
        if not _is_packed(parameter):
            tracker.add(parameter)
            del halves[name]
    return len(tracker.trace)


def _attach_adapters(model: Any, tracker: StorageTracker, *, halves: bool) -> None:
    """On a 16-bit base adapters come in its dtype first and are cast to fp32 together."""
    adapters = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    first = {id(parameter): _taken(tracker, 2 * parameter.numel()) for parameter in adapters if halves}
    for parameter in adapters:
        tracker.add(parameter)
        first.pop(id(parameter), None)


def _taken(tracker: StorageTracker, size_bytes: int) -> torch.Tensor:
    tensor = torch.empty(size_bytes, dtype=torch.uint8, device="meta")
    tracker.add(tensor)
    return tensor


def _is_packed(parameter: Any) -> bool:
    return getattr(parameter, "quant_state", None) is not None


def _natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """dot_natural_key: numbers by value and before words."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split("."))
