"""What the allocator keeps above the peak that it handed out: holes between tensors, which no formula follows.

CUDA with expandable segments, as the launcher sets: holes are as large as what made them, so the allowance goes by
the largest tensors that come and go. For plain operators its coefficients bound replays of 288 simulated runs from
above, to 2 %; for Triton kernels, which make fewer tensors, also 27 runs on an H200.
"""

from __future__ import annotations

from engine.hardware.machine import Gpu
from engine.memory import device
from engine.memory.activations import host_bytes
from engine.memory.device import attention_kernel, dequantize_bytes
from engine.memory.loss import chunk_tokens
from engine.memory.resident import WHOLE_MODULES, compute_width, largest_trainable
from engine.memory.shape import MIB, TrainingShape, adapts, trains, uses_kernels
from engine.models.spec import ModelSpec

_FLOOR_BYTES, _KERNELS_FLOOR_BYTES = 72 * MIB, 48 * MIB
_USUAL_RANK = 64
_LEAVING_INPUTS = 2
"""Layer inputs on their way to main memory and back, of those that wait there."""


def reserve_bytes(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, static_bytes: int, dynamic_bytes: int) -> int:
    """Bytes that are held and not handed out, for that much that stays and that comes and goes."""
    if shape.device == "cpu":
        return device.retained_bytes(shape, static_bytes, dynamic_bytes)
    if uses_kernels(shape):
        found = _KERNELS_FLOOR_BYTES + _with_kernels(spec, shape, static_bytes, dynamic_bytes)
    else:
        found = _FLOOR_BYTES + _plain(spec, shape, gpu, static_bytes, dynamic_bytes)
    one_input = shape.micro_batch * shape.max_length * spec.hidden_size * compute_width(shape)
    return int(found + min(_LEAVING_INPUTS * one_input, host_bytes(spec, shape)))


def _with_kernels(spec: ModelSpec, shape: TrainingShape, static_bytes: int, dynamic_bytes: int) -> float:
    width, tokens = compute_width(shape), shape.micro_batch * shape.max_length
    logits = width * min(tokens, chunk_tokens(spec, shape)) * spec.vocab_size
    inner = tokens * spec.intermediate_size * width
    int8 = 2.0 * inner if shape.quantization == "int8" else 0.0
    four_bit = 0.0 if shape.quantization == "int8" else 1.5 * dequantize_bytes(spec, shape)
    # A head with an adapter is formed again in the backward pass: its chunk may not fit where the first one was.
    return (
        (0.2 + 0.9 * adapts(shape, "lm_head")) * logits
        + 0.25 * inner
        + int8
        + four_bit
        + _learned(spec, shape, whole=0.35)
        + 0.005 * static_bytes
        + 0.004 * dynamic_bytes
    )


def _plain(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, static_bytes: int, dynamic_bytes: int) -> float:
    """A chunk of logits, a feed-forward activation, a trained embedding's fp32 gradient, squares of capped scores."""
    width, tokens = compute_width(shape), shape.micro_batch * shape.max_length
    # A head with an adapter is called and formed again, and leaves more behind.
    chunk = 4 * min(tokens, shape.loss_chunk_tokens) * spec.vocab_size
    holes = (0.5 + 0.3 * adapts(shape, "lm_head")) * chunk + _of_rank(spec, shape)
    holes += 1.0 * tokens * spec.intermediate_size * width + _learned(spec, shape, whole=0.8)
    if attention_kernel(spec, shape, gpu) == "capped":
        holes += 2.0 * tokens * shape.max_length * spec.num_attention_heads * width
    return holes + 0.005 * static_bytes + 0.045 * dynamic_bytes


def _of_rank(spec: ModelSpec, shape: TrainingShape) -> float:
    """What adapters of high rank leave behind, and dropout before them."""
    if shape.method != "lora" or shape.lora_r <= _USUAL_RANK:
        return 0.0
    largest = 4.0 * largest_trainable(spec, shape)
    if not shape.lora_dropout:
        return 6.0 * largest
    return 8.0 * largest + 0.1 * 4 * chunk_tokens(spec, shape) * spec.vocab_size


def _learned(spec: ModelSpec, shape: TrainingShape, *, whole: float) -> float:
    """Gradients of embeddings and head that learn; `whole`: fp32 copies in full tuning."""
    values = spec.vocab_size * spec.hidden_size
    if shape.method == "full":
        return (whole + 0.4 * ("8bit" in shape.optimizer)) * 4 * values
    if not WHOLE_MODULES & set(shape.modules_to_save):
        return 0.0
    # From simulated runs too: a head's gradients come and go in full, an embedding's once.
    return (1.6 if trains(shape, "embed_tokens") else 3.5) * compute_width(shape) * values
