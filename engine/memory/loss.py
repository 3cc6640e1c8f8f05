"""Bytes of the chunked cross-entropy: logits are made, used and dropped a few rows at a time.

Used by `phases.py`. The engine's loss computes each chunk's gradient of the hidden states already in
the forward pass, so that the logits of one chunk are the only ones ever alive.
"""

from __future__ import annotations

from engine.memory.shape import TrainingShape
from engine.memory.weights import compute_width
from engine.models.spec import ModelSpec

LOGIT_BYTES = 12
"""Per row and vocabulary entry: 16-bit logits 2, fp32 logits 4, softmax 4, 16-bit gradient 2; the
same in fp32, where logits, softmax and gradient take 4 each."""


def chunk_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Logits of one chunk at their worst moment."""
    rows = min(shape.micro_batch * shape.max_length, shape.loss_chunk_tokens)
    softcap = 4 if spec.family == "gemma2" else 0
    return rows * spec.vocab_size * (LOGIT_BYTES + softcap)


def hidden_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Gradient of the final hidden states, made in the forward pass."""
    return shape.micro_batch * shape.max_length * spec.hidden_size * compute_width(shape)


def final_norm_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Input, fp32 copy and output of the last norm."""
    per_token = (2 * compute_width(shape) + 4) * spec.hidden_size + 4
    return shape.micro_batch * shape.max_length * per_token


def head_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """One chunk's weight gradient before it is added; a frozen head has none."""
    return spec.vocab_size * spec.hidden_size * compute_width(shape) if shape.method == "full" else 0
