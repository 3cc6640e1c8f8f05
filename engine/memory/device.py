"""What a process takes beside its tensors: context, library workspaces, a matrix at work; and which attention it runs.

Figures are measured ones where there are any (T4, RTX 3090, RTX 6000 Ada, H200) and cautious ones elsewhere; the run
itself measures them and shows the difference. Not here: what the allocator keeps (`reserve.py`).
"""

from __future__ import annotations

from functools import lru_cache

from engine.hardware.machine import Gpu
from engine.hardware.torch_build import find_torch
from engine.memory.shape import GIB, MIB, TrainingShape, documents_of, learns_whole
from engine.models.spec import ModelSpec

_CONTEXT_MIB = {7: 160, 8: 430, 9: 768, 10: 800, 11: 800, 12: 800}
"""By major capability. Hopper: 744 and 752 MiB were measured (driver 580, CUDA 13); newer cards: a bound."""
_RTX_30_CONTEXT_MIB = 270
_UNKNOWN_CONTEXT_MIB = 800
_FLASH_HEAD_DIM = 256
FLASH_PADDING_TOKENS = 128
UNEVEN_SHARE = 2.0
"""Most that documents of one call of the memory-efficient kernel take above what their own lengths would."""


def context_bytes(gpu: Gpu | None, device: str) -> int:
    """CUDA context with loaded kernels, outside the allocator; Python and libraries on CPU."""
    if device == "cpu":
        return libraries_bytes()
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
    shapes = spec.sizes.linear_shapes
    n_in, n_out = (
        shapes.get("down_proj")
        or shapes.get("output_linear")
        or max(shapes.values(), key=lambda pair: pair[0] * pair[1])
    )
    return n_in * n_out * width


def attention_kernel(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None) -> str:
    """How packed documents are attended to.

    `varlen`: flash attention over offsets (Ampere and newer, 16-bit), or cuDNN's, which keeps the same. `packed`: the
    memory-efficient kernel over offsets (fp32, older cards, wide heads), which repeats key heads while it runs. `flex`:
    soft-capped scores in a compiled kernel (Ampere and newer). `capped`: their square, document by document. `split`:
    one call per document (CPU in fp32). `products`: the same as plain products (CPU in bf16).
    """
    capability = gpu.compute_capability if gpu else None
    recent = capability is None or capability >= (8, 0)
    if spec.traits.soft_caps:
        return "flex" if recent and shape.device == "cuda" else "capped"
    if shape.device == "cpu":
        return "products" if shape.compute_dtype == "bf16" else "split"
    flash = shape.compute_dtype != "fp32" and recent and spec.head_dim <= _FLASH_HEAD_DIM
    return "varlen" if flash else "packed"


def padded_share(spec: ModelSpec, shape: TrainingShape, kernel: str) -> float:
    """Rows of what attention's backward pass sums up in fp32, as a multiple of the tokens.

    Flash attention adds 128 rows to each document (flash_api.cpp); the memory-efficient kernel gives each document as
    many whole blocks as the longest of its call has (kernel_backward.h), which `modeling.attention_documents` bounds.
    """
    tokens, documents = shape.micro_batch * shape.max_length, documents_of(shape)
    if kernel == "varlen":
        return 1 + FLASH_PADDING_TOKENS * documents / tokens
    if kernel != "packed" or documents == shape.micro_batch:
        return 1.0
    block = efficient_block(spec.head_dim)
    return UNEVEN_SHARE * -(-shape.document_tokens // block) * block / shape.document_tokens


def efficient_block(head_dim: int) -> int:
    """Rows of a block of the memory-efficient kernel."""
    return 128 if head_dim > 64 else 64


LIBRARIES_BYTES = 614 * MIB
"""Resident memory of a worker after importing torch, transformers, PEFT and datasets."""
CUDA_BUILD_BYTES = 1000 * MIB
"""The same with a build of torch for CUDA, whose libraries are loaded on a processor too (CUDA 13)."""
_STATIC_SHARE, _STATIC_CAP_BYTES, _FLOOR_BYTES = 0.05, int(0.3 * GIB), 40 * MIB
_DYNAMIC_SHARE = {"bf16": 0.5, "fp16": 0.5, "fp32": 1.15}


@lru_cache(maxsize=1)
def libraries_bytes() -> int:
    """Python and the imported libraries, in bytes, by the kind of torch that is installed."""
    build = find_torch()
    return CUDA_BUILD_BYTES if build is not None and build.cuda_version else LIBRARIES_BYTES


def retained_bytes(shape: TrainingShape, static_bytes: int, dynamic_bytes: int) -> int:
    """What glibc's heap keeps above the live tensors' peak, in bytes.

    It fragments badly: resident memory of a 135M LoRA, measured, was above the live tensors by 45 to 51 % of the
    transient ones in bf16 and 105 to 117 % in fp32.
    """
    static = min(int(static_bytes * _STATIC_SHARE), _STATIC_CAP_BYTES)
    return static + int(dynamic_bytes * _DYNAMIC_SHARE[shape.compute_dtype]) + _FLOOR_BYTES
