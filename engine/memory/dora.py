"""Bytes of weight-decomposed adapters (DoRA), as PEFT forms them: dense products of a whole layer, and their results.

Held against the oracle's simulated steps in bf16, fp16 and fp32.
"""

from __future__ import annotations

from functools import lru_cache

from engine.memory.resident import Adapters
from engine.memory.shape import TrainingShape

_LAST, _GATED = frozenset({"down_proj"}), frozenset({"gate_proj", "up_proj", "gate_up_proj"})
_CAST_PARTS = 16
"""Bytes an output under automatic casting: its gradient and three products of it, in fp32."""


def is_decomposed(shape: TrainingShape) -> bool:
    """Whether the adapters of `shape` are of this kind."""
    return shape.use_dora and shape.method == "lora"


def magnitudes(adapters: Adapters) -> int:
    """Trained values of one block: one for each output."""
    return sum(n_out for _, _, n_out in adapters)


def saved_bytes(adapters: Adapters, width: int) -> int:
    """Per token and block: the frozen layer's output and the adapter's."""
    return 2 * width * magnitudes(adapters)


def matrices_bytes(adapters: Adapters, width: int) -> int:
    """Per block: dequantized matrices that autograd keeps where dropout makes PEFT multiply with them again."""
    return width * sum(n_in * n_out for _, n_in, n_out in adapters)


@lru_cache(maxsize=2048)
def _dense_bytes(adapters: Adapters, dtype: str, quantized: bool) -> int:
    copies = 4 if quantized else 3
    if dtype == "fp16":
        return max((_cast_bytes(n_in, n_out, copies) for _, n_in, n_out in adapters), default=0)
    width = 4 if dtype == "fp32" else 2
    return max((width * n_in * (n_in + copies * n_out) for _, n_in, n_out in adapters), default=0)


def _cast_bytes(n_in: int, n_out: int, copies: int) -> int:
    """Automatic casting keeps the fp32 identity beside its copy until B A is there; norms may be taken in fp32."""
    product = 2 * n_in * n_out
    return max(6 * n_in * n_in + product, 2 * n_in * n_in + (copies + 2) * product)


def dense_bytes(shape: TrainingShape, adapters: Adapters) -> int:
    """Temporaries of the worst layer: identity, B A, its multiple, the sum, and the weight when it is dequantized."""
    if not is_decomposed(shape):
        return 0
    return _dense_bytes(adapters, shape.compute_dtype, shape.quantization != "none")


def backward_bytes(adapters: Adapters, dtype: str, kept_mlp: int) -> int:
    """Per token, beside what a layer keeps: the widest of its adapted outputs while it is scaled, or its gradient.

    Magnitudes are fp32 under automatic casting, so that all but the result is; else other moments are wider.
    """
    if dtype != "fp16":
        return 0
    return max((_scaling_bytes(name, n_out, kept_mlp) for name, _, n_out in adapters), default=0)


def _scaling_bytes(name: str, n_out: int, kept_mlp: int) -> int:
    if name in _LAST:
        return (_CAST_PARTS + 2) * n_out
    if name in _GATED:
        # Two 16-bit gradients wait; what the gate made and the product are gone, and half of its inputs.
        return (_CAST_PARTS - 2) * n_out
    return (_CAST_PARTS + 2) * n_out - kept_mlp
