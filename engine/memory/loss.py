"""Bytes of the chunked cross-entropy: logits are made, used and dropped a few rows at a time.

The engine's loss computes each chunk's gradient of the hidden states already in the forward pass, so that the logits
of one chunk are the only ones ever alive. Rows without a label cost nothing; the figures here are for a batch of
trained tokens only, which is the most it can be.
"""

from __future__ import annotations

from engine.memory import norms
from engine.memory.resident import compute_width, trainable_width
from engine.memory.shape import KERNEL_CHUNK_TOKENS, TrainingShape, adapts, fuses_adapters, trains, uses_kernels
from engine.models.spec import ModelSpec

LOGIT_BYTES = 8
"""Per row and vocabulary entry: fp32 logits 4 and, inside logsumexp, their shifted exponentials 4."""
ADAPTED_LOGIT_BYTES = 12
"""A head with an adapter or a bias is called as a module and recomputed: fp32 logits, log-probabilities, gradient."""
RECOMPUTED_LOGIT_BYTES = 12
"""In the backward pass of a head called as a module: fp32 logits, log-probabilities and gradient."""
_DENSE_HEADS, _KERNEL_DENSE_HEADS = 2.0, 3.5
"""Matrices as large as the head that a decomposed adapter on it forms, beside a chunk at its worst."""
CAPPED_LOGIT_BYTES = 20
"""With a soft cap (Gemma 2, 3n and 4): logits, tanh, its square, slope and capped logits in fp32."""


def has_kernel(spec: ModelSpec, shape: TrainingShape) -> bool:
    """Whether the loss of a chunk is a Triton kernel's, in the logits' own memory."""
    return uses_kernels(shape) and spec.traits.kernels is not None and shape.loss_chunk_tokens > 0


def chunk_tokens(spec: ModelSpec, shape: TrainingShape) -> int:
    """Rows of logits alive at once in the forward pass."""
    return KERNEL_CHUNK_TOKENS if has_kernel(spec, shape) else shape.loss_chunk_tokens


def chunk_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Logits of one chunk at their worst moment."""
    rows = min(shape.micro_batch * (shape.max_length - 1), chunk_tokens(spec, shape))
    head = spec.vocab_size * spec.hidden_size * compute_width(shape)
    heads = _KERNEL_DENSE_HEADS if has_kernel(spec, shape) else _DENSE_HEADS
    decomposed = int(heads * head) if shape.use_dora and adapts(shape, "lm_head") else 0
    if has_kernel(spec, shape):
        # Where an adapter is not formed together with the head, both parts are there beside their sum.
        apart = adapts(shape, "lm_head") and not fuses_adapters(shape)
        return rows * spec.vocab_size * compute_width(shape) * (3 if apart else 1) + decomposed
    called = adapts(shape, "lm_head") or spec.traits.biased_head
    per_logit = ADAPTED_LOGIT_BYTES if called else LOGIT_BYTES
    return rows * spec.vocab_size * (CAPPED_LOGIT_BYTES if spec.has_capped_logits else per_logit) + decomposed


def chunk_end_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Logits of one chunk and their gradient when a trained head's gradient is added up."""
    rows = min(shape.micro_batch * shape.max_length, chunk_tokens(spec, shape))
    if has_kernel(spec, shape):
        return rows * spec.vocab_size * compute_width(shape)
    per_logit = (4 if shape.compute_dtype == "fp32" else 6) + (4 if spec.has_capped_logits else 0)
    return rows * spec.vocab_size * per_logit


_SORTED_TOKENS = 3072
_NORM_BACKWARD_BYTES = 24
"""A value of the last norm: its fp32 input, four more fp32 tensors and two 16-bit ones (simulated, LoRA and full)."""
_KERNEL_NORM_WIDTHS = 5
"""Tensors of the activations' width with a kernel or torch's own layer norm: input, rows' gradient, that of all
positions twice, and its own."""


def hidden_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Gradient of the final hidden states, made in the forward pass."""
    return shape.micro_batch * shape.max_length * spec.hidden_size * compute_width(shape)


def final_norm_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Input of the last norm, fp32 or a kernel's as it came, and its output as the rows that carry a label."""
    width = compute_width(shape)
    kept = width if _norm_has_kernel(spec, shape) else norms.kept_input(spec, width)
    return shape.micro_batch * shape.max_length * ((width + kept) * spec.hidden_size + 4)


def norm_backward_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The last norm's backward pass at its worst: the gradients before and after it, and its operators' in fp32.

    Counted on GPUs; a processor's fp32 layers take more.
    """
    if shape.device == "cpu":
        return 0
    one_operator = _norm_has_kernel(spec, shape) or spec.traits.biased_norms
    kept = _KERNEL_NORM_WIDTHS * compute_width(shape) if one_operator else _NORM_BACKWARD_BYTES
    return shape.micro_batch * shape.max_length * kept * spec.hidden_size


def _norm_has_kernel(spec: ModelSpec, shape: TrainingShape) -> bool:
    return uses_kernels(shape) and spec.traits.kernels is not None


def head_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """fp32 gradient of the output head in full fine-tuning, alive from the first chunk on; 0 otherwise."""
    return 4 * spec.vocab_size * spec.hidden_size if shape.method == "full" else 0


def head_product_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """One chunk's part of that gradient before it is added; 0 otherwise."""
    return spec.vocab_size * spec.hidden_size * compute_width(shape) if shape.method == "full" else 0


def head_backward_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The same after the last chunk: fp32 sum, its scaled copy and the 16-bit result; 0 when frozen.

    A head in `modules_to_save` is called chunk by chunk and recomputed: a chunk of logits beside the gradient so far,
    or that gradient, the chunk's and their sum.
    """
    if not trains(shape, "lm_head"):
        return 0
    if shape.method != "full":
        rows = min(shape.micro_batch * shape.max_length, chunk_tokens(spec, shape))
        so_far = head_gradient_bytes(spec, shape)
        per_logit = compute_width(shape) if has_kernel(spec, shape) else RECOMPUTED_LOGIT_BYTES
        recomputed = so_far + rows * spec.vocab_size * per_logit
        return final_norm_bytes(spec, shape) + max(3 * so_far, recomputed)
    beside = 0 if shape.device == "cpu" else final_norm_bytes(spec, shape)
    return beside + spec.vocab_size * spec.hidden_size * (8 + (2 if compute_width(shape) == 2 else 0))


def head_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The output head's gradient as a parameter keeps it, made first in the backward pass."""
    return spec.vocab_size * spec.hidden_size * _gradient_width(shape) if trains(shape, "lm_head") else 0


def embedding_gradient_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """The input embedding's gradient, made last in the backward pass; 0 when frozen."""
    return spec.vocab_size * spec.hidden_size * _gradient_width(shape) if trains(shape, "embed_tokens") else 0


def _gradient_width(shape: TrainingShape) -> int:
    return trainable_width(shape) if shape.method == "full" else compute_width(shape)


def embedding_backward_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """Extra while the input embedding's gradient is formed at the end; 0 when frozen.

    A tied matrix gets that gradient and the sum with the head's as tensors of their own. CUDA sorts the tokens and sums
    them by segments in fp32 (Embedding.cu, from 3,072 tokens).
    """
    if not trains(shape, "embed_tokens"):
        return 0
    tokens, hidden = shape.micro_batch * shape.max_length, spec.hidden_size
    segments = 0
    if tokens > _SORTED_TOKENS:
        segments = 24 * tokens + 4 * hidden * (-(-tokens // 10) + min(tokens, spec.vocab_size))
    copies = 2 if spec.tie_word_embeddings and shape.method == "full" else int(shape.gradient_accumulation_steps > 1)
    gradient = 2 * tokens * hidden * compute_width(shape)
    return gradient + segments + copies * embedding_gradient_bytes(spec, shape)
