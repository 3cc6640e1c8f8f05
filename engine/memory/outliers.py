"""Columns that LLM.int8 keeps in 16 bits beside its 8-bit inputs, by how likely they are in a layer of random weights.

bitsandbytes 0.50 (autograd/_functions.py, MatMul8bitLt) sets aside each column of an input in which one value reaches
6, and holds it until the backward pass. Inputs after a norm have none. The product of gate and up has: with weights
of std 0.02 both factors are normal with std 0.02 sqrt(h), and one value reaches 6 with probability p, a column of T
tokens with 1 - (1 - p)^T. Trained models have few such columns, so this is a bound for them.
"""

from __future__ import annotations

import math
from functools import lru_cache

from engine.memory.shape import TrainingShape, learns_whole
from engine.models.spec import ModelSpec

THRESHOLD = 6.0
_WEIGHT_STD = 0.02
_STEPS, _REACH = 400, 8.0
COLUMN_BYTES = 11
"""Of a weight's column while its product is formed: int8, fp32 twice and 16 bits."""
_PRODUCT_BYTES = 10
"""Of an output then: int32, fp16, 16 bits, and the residual stream beside it. Each input has its code."""


def kept_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Columns of one layer that its backward pass waits for: 2 bytes a token; 0 without int8 layers."""
    return 2 * shape.micro_batch * shape.max_length * columns(spec, shape)


def product_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The feed-forward output's weights for those columns, while its product is formed in int32 and fp16."""
    found = columns(spec, shape)
    beside = spec.intermediate_size + _PRODUCT_BYTES * spec.hidden_size
    return COLUMN_BYTES * spec.hidden_size * found + shape.micro_batch * shape.max_length * beside if found else 0


def columns(spec: ModelSpec, shape: TrainingShape) -> int:
    """Expected number among the inputs of the feed-forward output."""
    if shape.quantization != "int8" or shape.device == "cpu" or learns_whole(shape):
        return 0
    if spec.num_experts or not spec.gated_mlp:
        return 0
    tokens = shape.micro_batch * shape.max_length
    return math.ceil(-spec.intermediate_size * math.expm1(tokens * math.log1p(-chance(spec.hidden_size))))


@lru_cache(maxsize=512)
def chance(hidden_size: int) -> float:
    """Probability that one value of silu(gate) * up reaches the threshold."""
    std = _WEIGHT_STD * math.sqrt(hidden_size)
    step = 2 * _REACH / _STEPS
    total = 0.0
    for place in range(_STEPS):
        normal = -_REACH + (place + 0.5) * step
        gate = std * normal
        factor = abs(gate / (1 + math.exp(-gate))) * std
        total += math.exp(-normal * normal / 2) * math.erfc(THRESHOLD / (math.sqrt(2) * factor)) if factor else 0.0
    return total * step / math.sqrt(2 * math.pi)
