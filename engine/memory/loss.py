"""Bytes of the chunked cross-entropy: logits are made, used and dropped a few rows at a time.

Used by `phases.py`. The engine's loss computes each chunk's gradient of the hidden states already in
the forward pass, so that the logits of one chunk are the only ones ever alive. Rows without a label
cost nothing; the figures here are for a batch of trained tokens only, which is the most it can be.
"""

from __future__ import annotations

from engine.memory.shape import TrainingShape
from engine.memory.weights import compute_width
from engine.models.spec import ModelSpec

LOGIT_BYTES = 8
"""Per row and vocabulary entry: fp32 logits 4 and, inside logsumexp, their shifted exponentials 4."""
CAPPED_LOGIT_BYTES = 20
"""With a soft cap (Gemma 2): logits, tanh, its square, slope and capped logits in fp32."""


def chunk_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Logits of one chunk at their worst moment."""
    rows = min(shape.micro_batch * shape.max_length, shape.loss_chunk_tokens)
    return rows * spec.vocab_size * (CAPPED_LOGIT_BYTES if spec.family == "gemma2" else LOGIT_BYTES)


def hidden_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Gradient of the final hidden states, made in the forward pass."""
    return shape.micro_batch * shape.max_length * spec.hidden_size * compute_width(shape)


def final_norm_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """fp32 input and 16-bit output of the last norm, the latter as the rows that carry a label."""
    per_token = (compute_width(shape) + 4) * spec.hidden_size + 4
    return shape.micro_batch * shape.max_length * per_token


def head_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Gradient of a trained output head beside a chunk: fp32 sum 4, one chunk's product; 0 when frozen."""
    if shape.method != "full":
        return 0
    return spec.vocab_size * spec.hidden_size * (4 + compute_width(shape))


def head_backward_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The same after the last chunk: fp32 sum, its scaled copy and the 16-bit result; 0 when frozen."""
    if shape.method != "full":
        return 0
    return spec.vocab_size * spec.hidden_size * (8 + (2 if compute_width(shape) == 2 else 0))


def head_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The output head's gradient as a parameter keeps it, made first in the backward pass."""
    return spec.vocab_size * spec.hidden_size * compute_width(shape) if shape.method == "full" else 0
