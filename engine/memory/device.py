"""What a process takes beside its tensors: context, library workspaces, what the allocator keeps.

Used by `phases.py` and `terms.py`. Figures are measured ones where there are any (T4, RTX 3090, RTX
6000 Ada) and cautious ones elsewhere; the run itself measures them and shows the difference.
"""

from __future__ import annotations

from engine.hardware.machine import Gpu
from engine.memory.shape import GIB, MIB, TrainingShape
from engine.memory.weights import largest_matrix_bytes
from engine.models.spec import ModelSpec

CPU_LIBRARIES_BYTES = 614 * MIB
"""Resident memory of a worker after importing torch, transformers, PEFT and datasets."""
_CONTEXT_MIB = {7: 160, 8: 430, 9: 520, 10: 600, 11: 600, 12: 600}
_RTX_30_CONTEXT_MIB = 270
_UNKNOWN_CONTEXT_MIB = 600
_STATIC_SHARE, _STATIC_CAP_BYTES = 0.05, int(0.3 * GIB)
_DYNAMIC_SHARE, _FLOOR_BYTES = 0.11, 40 * MIB
_CPU_DYNAMIC_SHARE = {"bf16": 0.5, "fp16": 0.5, "fp32": 1.15}


def context_bytes(gpu: Gpu | None, device: str) -> int:
    """CUDA context with loaded kernels, outside the allocator; Python and libraries on CPU."""
    if device == "cpu":
        return CPU_LIBRARIES_BYTES
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
    """One matrix back in the compute dtype with its fp32 scales, as every backward pass needs it.

    int8 also quantizes the layer's input and holds int32 results of the widest layer.
    """
    if shape.quantization == "none":
        return 0
    width = 4 if shape.compute_dtype == "fp32" else 2
    largest = largest_matrix_bytes(spec, width)
    if shape.quantization == "int8":
        tokens = shape.micro_batch * shape.max_length
        return largest + tokens * (spec.hidden_size + 4 * max(spec.intermediate_size, spec.hidden_size))
    return largest + largest // width // 64 * 8


def reserve_bytes(shape: TrainingShape, static_bytes: int, dynamic_bytes: int) -> int:
    """What the allocator keeps above the peak it handed out.

    CUDA, from replays of a faithful model of its allocator: 7.7 % for a 4 x 2048 batch and 6.2 % for
    1 x 2048 of an 8B QLoRA with chunked loss; weights fragment little, what comes and goes more.
    On CPU glibc's heap fragments badly: resident memory of a 135M LoRA, measured, was above the live
    tensors by 45 to 51 % of the transient ones in bf16 and 105 to 117 % in fp32.
    """
    share = _CPU_DYNAMIC_SHARE[shape.compute_dtype] if shape.device == "cpu" else _DYNAMIC_SHARE
    static = min(int(static_bytes * _STATIC_SHARE), _STATIC_CAP_BYTES)
    return static + int(dynamic_bytes * share) + _FLOOR_BYTES


def attention_kernel(gpu: Gpu | None, shape: TrainingShape) -> str:
    """How packed documents are attended to.

    `varlen`: torch's variable-length flash kernel (Ampere and newer, 16-bit). `split`: one call per
    document (CPU in fp32). `products`: the same as plain products (CPU in bf16). `repeated`: one call
    per document with key heads repeated for every query head.
    """
    if shape.device == "cpu":
        return "products" if shape.compute_dtype == "bf16" else "split"
    capability = gpu.compute_capability if gpu else None
    flash = shape.compute_dtype != "fp32" and (capability is None or capability >= (8, 0))
    return "varlen" if flash else "repeated"
