"""Bytes of a linear attention layer with a gated delta rule (Qwen3.5, Qwen3-Next), per token.

They are those of transformers' own operators (`torch_chunk_gated_delta_rule` of 5.23), which work on chunks of 64
tokens in fp32 and keep every product of a chunk, and each chunk's state. The kernels of flash-linear-attention keep
less; what they take was never measured here, so for them a prediction is an upper bound. Held against the oracle's
simulated steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.memory.shape import TrainingShape
from engine.models.spec import ModelSpec

CHUNK_TOKENS = 64
INPUTS = frozenset({"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "in_proj_qkvz", "in_proj_ba"})
"""Projections that take what the first norm gave."""
_FP32 = 4


@dataclass(frozen=True, slots=True)
class DeltaRule:
    """Heads of one layer and their sizes; `stretch`: tokens that chunks have for each token of a row."""

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    stretch: float = 1.0

    @property
    def key(self) -> int:
        """Features of all keys, after each was repeated for its value heads."""
        return self.value_heads * self.key_size

    @property
    def value(self) -> int:
        """Features of all values."""
        return self.value_heads * self.value_size

    @property
    def mixed(self) -> int:
        """Features that the convolution takes: queries, keys and values."""
        return 2 * self.key_heads * self.key_size + self.value

    @property
    def square(self) -> int:
        """Features of one token against those of its chunk, for all heads."""
        return CHUNK_TOKENS * self.value_heads

    @property
    def state(self) -> int:
        """Values of a chunk's state, by token."""
        return self.value_heads * self.key_size * self.value_size // CHUNK_TOKENS


def delta_rule(spec: ModelSpec, shape: TrainingShape) -> DeltaRule | None:
    """The rule of a model with layers of one kind; None where they attend otherwise."""
    delta = spec.layer_groups[0].delta if spec.layer_groups else ()
    if not delta:
        return None
    key_heads, value_heads, key_size, value_size = delta
    chunks = -(-shape.max_length // CHUNK_TOKENS)
    return DeltaRule(key_heads, value_heads, key_size, value_size, chunks * CHUNK_TOKENS / shape.max_length)


def has_delta_rule(spec: ModelSpec) -> bool:
    """Whether any layer has one."""
    return any(group.delta for group in spec.layer_groups)


def saved_bytes(rule: DeltaRule, dtype: str, *, output_needed: bool, full: bool, one_row: bool) -> int:
    """Kept from forward to backward, beside the first norm and the projections' input."""
    width = 4 if dtype == "fp32" else 2
    # Queries and keys before they are normed; then padded. Keys times beta, and both times their decay; solved keys.
    keys, of_chunks = 2 * _FP32, 6 * _FP32
    # The padded values, the solved ones, and those less what the state knew. Products of a chunk's tokens, five times.
    values, squares, states = 3 * _FP32, 5 * _FP32, _FP32
    if dtype == "fp32" and not one_row:
        # Heads stay where they were without a cast, and products of several rows copy them.
        of_chunks += 4 * _FP32
    if dtype == "fp16":
        # Automatic casting keeps a 16-bit copy of each factor.
        of_chunks, squares, states = of_chunks + 6, squares - 6, states + 4
    chunks = of_chunks * rule.key + values * rule.value + squares * rule.square + states * rule.state
    convolved = 2 * width * rule.mixed
    return convolved + keys * rule.key + int(rule.stretch * chunks) + _gated_norm(rule, width, output_needed, full)


def _gated_norm(rule: DeltaRule, width: int, output_needed: bool, full: bool) -> int:
    """fp32 output, gate and activated gate, what the activation multiplies, and the input of the output projection."""
    normed = width * rule.value if full else 0
    return (3 * _FP32 + width + width * output_needed) * rule.value + normed


def worst_bytes(rule: DeltaRule, width: int, *, output_needed: bool, full: bool) -> int:
    """Extra at the largest moment of the layer's backward pass, before or after what is behind it in the layer."""
    return max(
        _scan_backward_bytes(rule, width) - _gated_norm(rule, width, output_needed, full),
        _norm_again_bytes(rule, width),
    )


def _scan_backward_bytes(rule: DeltaRule, width: int) -> int:
    """The scan over chunks backward: the norm behind it is gone by then.

    Each chunk's gradients are added into those of the whole row: two of a kind are there while they are.
    """
    whole = 2 * rule.value + 3 * rule.key + 2 * max(rule.key, rule.value) + rule.square
    return int(_FP32 * rule.stretch * whole) + width * rule.value


def _norm_again_bytes(rule: DeltaRule, width: int) -> int:
    """The gated norm formed again: what was convolved, the gate and the output before and after are still held."""
    return width * rule.mixed + (2 * width + _FP32) * rule.value
