"""What a training process on a processor takes beside its live tensors: libraries, and what malloc keeps.

Called by `device.py` for shapes with `device == "cpu"`. Not here: the tensors themselves (`phases.py`).
"""

from __future__ import annotations

from functools import lru_cache

from engine.hardware.torch_build import find_torch
from engine.memory.shape import GIB, MIB, TrainingShape

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
