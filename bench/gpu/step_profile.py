"""`python -m bench.gpu.step_profile MODEL QUANTIZATION MICRO LENGTH`: one step under the profiler, as a run does it.

Device time by operation, time by kind of work, and where the host waits for the card. The step is the one that a run
takes by default: fused adapters and, where they are there, Liger's kernels; every layer checkpointed.
"""

from __future__ import annotations

import statistics
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from bench.gpu.card import ceilings
from bench.gpu.floor import ceiling_flops, floor_of
from bench.gpu.job import told
from bench.gpu.step import Bench, build, idle, run_step, timed
from engine.memory.shape import TrainingShape
from engine.modeling import liger

_STEPS, _WARM_UP = 6, 2
_ROWS = 30
_KINDS = {
    "attention": ("flash", "fmha", "sdpa", "attention"),
    "Liger kernels": ("_rms_norm", "_swiglu", "_geglu", "_rope", "liger"),
    "optimizer": ("multi_tensor", "adam"),
    "copies": ("copy", "catarray", "memset"),
    "products": ("nvjet", "gemm", "cutlass", "splitk"),
    "element by element": ("elementwise", "reduce", "softmax"),
}
"""Parts of the names of kernels; the first kind that knows one counts it."""


def kind_of(name: str) -> str:
    """What a kernel does; `other` where no kind knows it."""
    low = name.lower()
    return next((kind for kind, parts in _KINDS.items() if any(part in low for part in parts)), "other")


def waits(bench: Bench) -> list[tuple[str, int]]:
    """Where one step waits for the card, innermost first, and how often."""
    found: Counter[str] = Counter()

    def note(*_: Any, **__: Any) -> None:
        frames = [frame for frame in traceback.extract_stack()[:-1] if "/bench/" not in frame.filename][-4:]
        found[" < ".join(f"{Path(frame.filename).name}:{frame.name}" for frame in reversed(frames))] += 1

    shown, warnings.showwarning = warnings.showwarning, note
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        run_step(bench)
        torch.cuda.set_sync_debug_mode("default")
    warnings.showwarning = shown
    return found.most_common(12)


def profiled(bench: Bench) -> dict[str, Any]:
    """Device time of one step in milliseconds: in all, by kind and by operation."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        began = idle(bench.device)
        run_step(bench)
        wall_s = idle(bench.device) - began
    events = profiler.key_averages()
    # An operation's own device time is that of its kernels: the two lists tell the same time twice.
    kernels = [event for event in events if event.device_type.name == "CUDA"]
    operations = [event for event in events if event.device_type.name == "CPU"]
    kinds: Counter[str] = Counter()
    for event in kernels:
        kinds[kind_of(event.key)] += event.self_device_time_total / 1e3
    order = sorted(operations, key=lambda event: -event.self_device_time_total)[:_ROWS]
    return {
        "device_ms": sum(event.self_device_time_total for event in kernels) / 1e3,
        "wall_ms": wall_s * 1e3,
        "kinds_ms": dict(kinds.most_common()),
        "operations": [[event.key[:110], event.count, event.self_device_time_total / 1e3] for event in order],
    }


def main(model: str, quantization: str, micro: int, length: int) -> None:
    """Build the model and take the step as a run does."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    top = ceilings(device)
    kernels = "plain" if liger.missing_reason() else "liger"
    shape = TrainingShape(quantization=quantization, micro_batch=micro, max_length=length, kernels=kernels)
    look(build(model, shape, device), quantization, top)


def look(bench: Bench, quantization: str, top: dict[str, Any]) -> None:
    """Time, profile, look for waits; tell after each."""
    shape, model = bench.case.shape, bench.case.name
    found = timed(bench, _STEPS)
    middle = statistics.median(found["step_s"][_WARM_UP:])
    floor = floor_of(model, shape, full_rows=True)
    useful = floor.useful_flops if floor else 0.0
    result: dict[str, Any] = {
        "model": model,
        **{"quantization": quantization, "micro_batch": shape.micro_batch, "length": shape.max_length},
        **found,
        "median_step_s": middle,
        "tokens_per_second": bench.tokens / middle,
        "useful_flops": useful / middle,
        "useful_share": useful / middle / ceiling_flops(top),
        "ceilings": top,
    }
    told(result)
    result |= profiled(bench)
    told(result)
    if bench.device == "cuda":
        told({**result, "waits": waits(bench)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
