"""What a process takes beside its tensors: context, library workspaces, what the allocator keeps.

Used by `phases.py` and `terms.py`. Figures are measured ones where there are any (T4, RTX 3090, RTX
6000 Ada) and cautious ones elsewhere; the run itself measures them and shows the difference.
"""

from __future__ import annotations

from engine.hardware.machine import Gpu
from engine.memory import processor
from engine.memory.loss import chunk_tokens, has_kernel, is_capped
from engine.memory.shape import MIB, TrainingShape, learns_whole, trains
from engine.memory.states import WHOLE_MODULES
from engine.models.parameters import linear_shapes
from engine.models.spec import ModelSpec

_CONTEXT_MIB = {7: 160, 8: 430, 9: 520, 10: 600, 11: 600, 12: 600}
_RTX_30_CONTEXT_MIB = 270
_UNKNOWN_CONTEXT_MIB = 600
_FLOOR_BYTES = 72 * MIB
_FLASH_HEAD_DIM = 256


def context_bytes(gpu: Gpu | None, device: str) -> int:
    """CUDA context with loaded kernels, outside the allocator; Python and libraries on CPU."""
    if device == "cpu":
        return processor.libraries_bytes()
    capability = gpu.compute_capability if gpu else None
    if capability == (8, 6):
        return _RTX_30_CONTEXT_MIB * MIB
    return (_CONTEXT_MIB.get(capability[0], _UNKNOWN_CONTEXT_MIB) if capability else _UNKNOWN_CONTEXT_MIB) * MIB


def cublas_bytes(gpu: Gpu | None, device: str) -> int:
    """Two workspaces (forward and autograd thread), taken through the caching allocator."""
    if device == "cpu":
        return 0
    capability = gpu.compute_capability if gpu else None
    return 2 * (32 * MIB if capability is None or capability >= (9, 0) else int(8.125 * MIB))


def dequantize_bytes(spec: ModelSpec, shape: TrainingShape) -> int:
    """One matrix back in the compute dtype, as every backward pass needs it: the feed-forward output's."""
    if shape.quantization == "none" or learns_whole(shape):
        return 0
    width = 4 if shape.compute_dtype == "fp32" else 2
    shapes = linear_shapes(spec)
    n_in, n_out = shapes.get("down_proj") or max(shapes.values(), key=lambda pair: pair[0] * pair[1])
    return n_in * n_out * width


def reserve_bytes(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, static_bytes: int, dynamic_bytes: int) -> int:
    """What the allocator keeps above the peak it handed out.

    CUDA with expandable segments, as the launcher sets: holes are as large as what made them, so the allowance goes by
    the largest tensors that come and go (a chunk of logits, a feed-forward activation, a trained embedding's fp32
    gradient, squares of capped scores). Coefficients bound replays of 288 simulated runs from above, to 2 %; no GPU
    was measured for them. Processors: `processor.retained_bytes`.
    """
    if shape.device == "cpu":
        return processor.retained_bytes(shape, static_bytes, dynamic_bytes)
    width = 4 if shape.compute_dtype == "fp32" else 2
    tokens = shape.micro_batch * shape.max_length
    per_logit = width if has_kernel(spec, shape) else 4
    logits = per_logit * min(tokens, chunk_tokens(spec, shape)) * spec.vocab_size
    holes = 0.5 * logits + 1.0 * tokens * spec.intermediate_size * width
    if shape.method == "full":
        holes += (1.2 if "8bit" in shape.optimizer else 0.8) * 4 * spec.vocab_size * spec.hidden_size
    elif shape.modules_to_save:
        # From simulated runs too: a head's gradients come and go in full, an embedding's once.
        copies = (1.6 if trains(shape, "embed_tokens") else 3.5) if WHOLE_MODULES & set(shape.modules_to_save) else 0
        holes += copies * width * spec.vocab_size * spec.hidden_size
    if attention_kernel(spec, shape, gpu) == "capped":
        holes += 2.0 * tokens * shape.max_length * spec.num_attention_heads * width
    return int(holes + 0.005 * static_bytes + 0.045 * dynamic_bytes) + _FLOOR_BYTES


def attention_kernel(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None) -> str:
    """How packed documents are attended to.

    `varlen`: flash attention over offsets (Ampere and newer, 16-bit), or cuDNN's, which keeps the same. `packed`: the
    memory-efficient kernel over offsets (fp32, older cards, wide heads), which repeats key heads while it runs. `flex`:
    soft-capped scores in a compiled kernel (Ampere and newer). `capped`: their square, document by document. `split`:
    one call per document (CPU in fp32). `products`: the same as plain products (CPU in bf16).
    """
    capability = gpu.compute_capability if gpu else None
    recent = capability is None or capability >= (8, 0)
    if is_capped(spec):
        return "flex" if recent and shape.device == "cuda" else "capped"
    if shape.device == "cpu":
        return "products" if shape.compute_dtype == "bf16" else "split"
    flash = shape.compute_dtype != "fp32" and recent and spec.head_dim <= _FLASH_HEAD_DIM
    return "varlen" if flash else "packed"
