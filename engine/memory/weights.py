"""Bytes of the base model's weights, plain or quantized, exact to the allocator's 512-byte blocks.

Used by `phases.py` and `terms.py`. Not here: adapters and optimizer (`states.py`).
Formulas: bitsandbytes 0.50 source (functional.py, QuantState); nf4 and fp4 keep one absmax per 64
values, double quantization stores those as bytes with one fp32 per 256 of them.
"""

from __future__ import annotations

from functools import lru_cache

from engine.memory.shape import TrainingShape
from engine.models.parameters import linear_parameters, linear_shapes, total_parameters
from engine.models.spec import ModelSpec

BLOCK_BYTES = 512
"""The CUDA caching allocator rounds every tensor up to this."""
_GROUP, _SCALES_GROUP = 64, 256
_CODE_BYTES, _NESTED_CODE_BYTES = 64, 1024
_WIDTH = {"bf16": 2, "fp16": 2, "fp32": 4}


def rounded(size_bytes: int) -> int:
    """`size_bytes` as the allocator hands it out."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def compute_width(shape: TrainingShape) -> int:
    """Bytes of one activation, and of one frozen weight that is not quantized."""
    return _WIDTH[shape.compute_dtype]


def matrix_bytes(count: int, rows: int, quantization: str, double_quant: bool) -> int:
    """One quantized matrix of `count` values and `rows` output rows, with its scales."""
    if quantization == "int8":
        return rounded(count) + rounded(4 * rows)
    groups = -(-count // _GROUP)
    packed = rounded(-(-count // 2)) + rounded(_CODE_BYTES)
    if not double_quant:
        return packed + rounded(4 * groups)
    nested = rounded(4 * -(-groups // _SCALES_GROUP)) + rounded(_NESTED_CODE_BYTES) + rounded(4)
    return packed + rounded(groups) + nested


@lru_cache(maxsize=2048)
def quantized_bytes(spec: ModelSpec, quantization: str, double_quant: bool) -> int:
    """All layers' linear matrices under `nf4`, `fp4` or `int8`."""
    shapes = linear_shapes(spec).values()
    layer = sum(matrix_bytes(n_in * n_out, n_out, quantization, double_quant) for n_in, n_out in shapes)
    return spec.num_hidden_layers * layer


@lru_cache(maxsize=2048)
def weight_bytes(spec: ModelSpec, quantization: str, double_quant: bool, width: int) -> int:
    """The whole base model; embeddings, output head, norms and experts keep the compute dtype."""
    if quantization == "none":
        return total_parameters(spec) * width
    rest = total_parameters(spec) - linear_parameters(spec)
    return quantized_bytes(spec, quantization, double_quant) + rest * width


@lru_cache(maxsize=2048)
def largest_matrix_bytes(spec: ModelSpec, width: int) -> int:
    """The largest linear layer in the compute dtype: what dequantizing or loading one needs at once."""
    return max(n_in * n_out for n_in, n_out in linear_shapes(spec).values()) * width
