"""`python -m bench.gpu.variants MODEL MICRO LENGTH [plain|compiled]`: one LoRA step in several ways, in one process.

The same weights, rows and optimizer; only what computes the step changes, so differences are small and trusted. A line
of JSON with all findings so far follows each way. A way that fails is there with the reason.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from bench.gpu.job import told
from bench.gpu.step import Bench, build, forget, timed
from engine.errors import EngineError
from engine.memory.shape import TrainingShape
from engine.modeling import attention_kernels, checkpointing, fused_lora, liger
from engine.modeling.adapters import base_of
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
    Way("flash attention in place of cuDNN's", cudnn=False),
    Way("every 2nd layer checkpointed", every=2),
    Way("no checkpointing", every=0),
    Way("no checkpointing, plain kernels", every=0, kernels=False),
)
COMPILED = (
    Way("compiled layers, PEFT's adapters", fused=False, kernels=False, compiled=True),
    Way("compiled layers, PEFT's adapters, no checkpointing", fused=False, kernels=False, every=0, compiled=True),
    Way("compiled layers, fused adapters", kernels=False, compiled=True),
)


@contextmanager
def applied(model: Any, way: Way) -> Iterator[tuple[str, ...]]:
    """The model as the way has it, and what Liger's functions do in it; plain again afterwards, also after an error."""
    bound: tuple[str, ...] = ()
    with ExitStack() as undo:
        undo.callback(plain, model)
        plain(model)
        checkpointing.enable(
            model, way.every, keep_last=way.keep_last, offload=way.offload, keep_attention=way.keep_attention
        )
        if way.fused:
            fused_lora.fuse(model)
        if way.kernels:
            if reason := liger.missing_reason():
                raise RuntimeError(reason)
            bound = liger.bind(model)
        if way.compiled:
            undo.callback(compiled.COMPILED.undo, model)
            compiled.COMPILED.apply(model)
        if not way.cudnn:
            undo.enter_context(mock.patch.object(attention_kernels, "has_cudnn", _no_cudnn))
        yield bound


def _no_cudnn(query: torch.Tensor, key: torch.Tensor) -> bool:
    """A function, because a recording mock would keep every query alive."""
    return False


def plain(model: Any) -> None:
    """PEFT's adapters, transformers' operators, and every layer keeps what its backward pass needs."""
    fused_lora.unfuse(model)
    liger.unbind(model)
    for layer in checkpointing.checkpointed_layers(base_of(model)):
        layer.gradient_checkpointing = False


def measure(bench: Bench, way: Way) -> dict[str, Any]:
    """Median seconds of the steady steps, tokens per second, peaks; or the reason why not."""
    try:
        with applied(bench.model, way) as bound:
            found = timed(bench, WARM_UP + STEADY)
    except (EngineError, RuntimeError, TypeError, ValueError, AttributeError, ImportError) as error:
        return {"way": way.name, "error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"}
    finally:
        forget(bench)
    middle = statistics.median(found["step_s"][WARM_UP:])
    return {
        "way": way.name,
        "bound": bound,
        **found,
        "median_step_s": middle,
        "tokens_per_second": bench.tokens / middle,
    }


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
