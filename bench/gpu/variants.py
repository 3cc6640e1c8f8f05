"""`python -m bench.gpu.variants MODEL MICRO LENGTH [plain|compiled]`: one LoRA step in several ways, in one process.

The same weights, rows and optimizer; only what computes the step changes, so differences are small and trusted. A line
of JSON with all findings so far follows each way. A way that this version of the project has not, or that fails, is
there with the reason.
"""

from __future__ import annotations

import importlib
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from bench.gpu.job import told
from bench.gpu.step import Bench, build, forget, timed
from engine.errors import EngineError
from engine.memory.shape import TrainingShape
from engine.modeling import forward, fused_lora
from engine.train import compiled

WARM_UP, STEADY = 2, 5


@dataclass(frozen=True, slots=True)
class Way:
    """How the step is computed."""

    name: str
    fused: bool = True
    kernels: bool = True
    """Liger's functions for norms, rotation and feed-forward."""
    every: int = 1
    """Checkpoint every n-th layer; 0 = none."""
    keep_last: bool = False
    offload: bool = False
    keep_attention: bool = False
    cudnn: bool = True
    compiled: bool = False


WAYS = (
    Way("Liger kernels, fused adapters"),
    Way("PEFT's adapters, plain kernels", fused=False, kernels=False),
    Way("fused adapters, plain kernels", kernels=False),
    Way("PEFT's adapters, Liger kernels", fused=False),
    Way("inputs in host memory", offload=True),
    Way("inputs in host memory, last layer kept", offload=True, keep_last=True),
    Way("last layer kept", keep_last=True),
    Way("attention kept", keep_attention=True),
    Way("attention kept, inputs in host memory", keep_attention=True, offload=True),
    Way("without cuDNN attention", cudnn=False),
    Way("every 2nd layer checkpointed", every=2),
    Way("no checkpointing", every=0),
    Way("no checkpointing, plain kernels", every=0, kernels=False),
)
COMPILED = (
    Way("compiled layers, plain kernels", kernels=False, compiled=True),
    Way("compiled layers, plain kernels, no checkpointing", every=0, kernels=False, compiled=True),
    Way("compiled layers, Liger kernels", compiled=True),
)


class Missing(Exception):
    """This version of the project does not have a way."""


def module(name: str) -> Any:
    """A module of the project. Raises Missing where this version has none of that name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise Missing(f"this version has no {name}") from None
        raise


def checkpoint(model: Any, way: Way) -> None:
    """Checkpoint layers as the way says."""
    special = way.keep_last or way.offload or way.keep_attention
    try:
        found = module("engine.modeling.checkpointing")
    except Missing:
        if special:
            raise
        _every(model, way.every)
        return
    _every(model, 0)
    options = {"keep_last": way.keep_last, "offload": way.offload, "keep_attention": way.keep_attention}
    found.enable(model, way.every, **options, reentrant=False)


def _every(model: Any, every: int) -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [each for each in forward.base_of(model).modules() if isinstance(each, GradientCheckpointingLayer)]
    for number, layer in enumerate(layers):
        layer.gradient_checkpointing = bool(every) and number % every == 0


@contextmanager
def applied(model: Any, way: Way) -> Iterator[None]:
    """The model as the way has it; plain again afterwards, also where a part of the way fails."""
    with ExitStack() as undo:
        undo.callback(_every, model, 0)
        checkpoint(model, way)
        if way.fused:
            undo.callback(fused_lora.unfuse, model)
            fused_lora.fuse(model)
        if way.kernels:
            liger = module("engine.modeling.liger")
            undo.callback(liger.unbind, model)
            liger.bind(model)
        if way.compiled:
            undo.callback(compiled.COMPILED.undo, model)
            compiled.COMPILED.apply(model)
        before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
        undo.callback(torch.backends.cuda.enable_cudnn_sdp, before)
        torch.backends.cuda.enable_cudnn_sdp(way.cudnn)
        yield


def measure(bench: Bench, way: Way) -> dict[str, Any]:
    """Median seconds of the steady steps, tokens per second, peaks; or the reason why not."""
    try:
        with applied(bench.model, way):
            found = timed(bench, WARM_UP + STEADY)
    except (Missing, EngineError, RuntimeError, TypeError, ValueError, AttributeError, ImportError) as error:
        return {"way": way.name, "error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"}
    finally:
        forget(bench)
    middle = statistics.median(found["step_s"][WARM_UP:])
    return {"way": way.name, **found, "median_step_s": middle, "tokens_per_second": bench.tokens / middle}


def main(model: str, micro: int, length: int, ways: tuple[Way, ...]) -> None:
    """Every way, told one by one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = TrainingShape(checkpoint_every=1, micro_batch=micro, max_length=length)
    bench = build(model, shape, device)
    rows: list[dict[str, Any]] = []
    for way in ways:
        rows.append(measure(bench, way))
        told({"model": model, "micro_batch": micro, "length": length, "variants": rows})


if __name__ == "__main__":
    name, micro_text, length_text, kind = sys.argv[1:5]
    main(name, int(micro_text), int(length_text), COMPILED if kind == "compiled" else WAYS)
