"""Bytes of weights that a checkpoint stores in 8 or 4 bit: in its files, and while they are dequantized."""

from __future__ import annotations

from engine.memory import experts
from engine.memory.shape import MIB, TrainingShape, learns_whole
from engine.models.spec import ModelSpec
from engine.models.stored import NAMES
from engine.text import format_bytes

_MXFP4_BITS = 4.25
"""A value has 4 bits and shares an exponent of 8 with 31 others."""
_PORTION_BYTES = 64 * MIB
"""fp32 values of the rows that are dequantized at a time, and their indices."""
READERS = 4
"""Threads of transformers' loader, each with a tensor in hand; a single one where tensors are quantized anew."""


def stored_bytes(spec: ModelSpec) -> int:
    """Weights as the files hold them."""
    total, packed = spec.sizes.total_parameters, experts.stacked_parameters(spec)
    if spec.stored == "mxfp4":
        return 2 * (total - packed) + int(packed * _MXFP4_BITS / 8)
    packed += spec.sizes.linear_parameters
    return 2 * (total - packed) + packed


def load_bytes(spec: ModelSpec, shape: TrainingShape, width: int) -> int:
    """What putting the largest tensors in place takes beside the weights that are there."""
    if not spec.stored:
        return experts.load_bytes(spec, shape, width)
    readers = 1 if shape.quantization != "none" and not learns_whole(shape) else READERS
    if spec.stored == "fp8":
        in_hand = max(n_in * n_out for n_in, n_out in spec.sizes.linear_shapes.values())
        return experts.load_bytes(spec, shape, width) + readers * (in_hand + _PORTION_BYTES)
    largest = spec.num_experts * max(n_in * n_out for n_in, n_out in experts.stacks(spec))
    dense = width * largest if experts.are_packed(spec, shape) else 0
    return dense + readers * (int(largest * _MXFP4_BITS / 8) + _PORTION_BYTES)


def note(spec: ModelSpec, shape: TrainingShape, weights_bytes: int) -> str:
    """What becomes of the stored format, and what that costs; empty for plain weights."""
    if not spec.stored:
        return ""
    quantized = shape.quantization != "none" and not learns_whole(shape)
    then = f" and quantized to {shape.quantization}" if quantized else ""
    return (
        f"the files hold {NAMES[spec.stored]}: weights are dequantized to {shape.compute_dtype}{then} while loading, "
        f"{format_bytes(weights_bytes)} in place of {format_bytes(stored_bytes(spec))}"
    )
