"""What a machine can compute with: precisions and usable cards.

Not here: probing (`probe.py`), and how much fits.
Capabilities compare as tuples of integers: as text, "10.0" would be below "8.0".
"""

from __future__ import annotations

from engine.hardware.machine import Gpu, Machine

_BF16_FROM = (8, 0)
_FP16_FROM = (5, 3)
_GENERATIONS = (
    ((10, 0), "Blackwell"),
    ((9, 0), "Hopper"),
    ((8, 9), "Ada"),
    ((8, 0), "Ampere"),
    ((7, 5), "Turing"),
    ((7, 0), "Volta"),
    ((6, 0), "Pascal"),
)


def supports_bf16(gpu: Gpu) -> bool:
    """bf16 in hardware: capability 8.0 or higher. Older cards emulate it slowly, unknown ones count as older."""
    return gpu.compute_capability is not None and gpu.compute_capability >= _BF16_FROM


def generation(capability: tuple[int, int] | None) -> str | None:
    """NVIDIA's name for the architecture, such as `Ampere`; `None` before Pascal or unknown."""
    if capability is None:
        return None
    return next((name for first, name in _GENERATIONS if capability >= first), None)


def best_dtype(machine: Machine, gpu: Gpu | None) -> tuple[str, str]:
    """(`bf16`|`fp16`|`fp32`, reason) for training on `gpu`, or on the processor where it is `None`."""
    if gpu is None:
        return _cpu_dtype(machine)
    capability = gpu.compute_capability
    if capability is None:
        return "fp16", "fp16: the card does not tell its capability, bf16 needs 8.0"
    shown = f"{capability[0]}.{capability[1]}"
    if capability >= _BF16_FROM:
        return "bf16", f"bf16: capability {shown} ({generation(capability)})"
    if capability >= _FP16_FROM:
        return "fp16", f"fp16: capability {shown} ({generation(capability) or 'Maxwell'}), bf16 needs 8.0"
    return "fp32", f"fp32: capability {shown}, fp16 needs 5.3 and bf16 8.0"


def _cpu_dtype(machine: Machine) -> tuple[str, str]:
    if not cpu_bf16_native(machine):
        return "fp32", "fp32: the processor has no bf16 instructions"
    names = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX", "bf16": "Arm BF16"}
    there = [label for feature, label in names.items() if feature in machine.cpu.features]
    return "bf16", f"bf16: the processor has {' and '.join(there) or 'bf16 instructions'}"


def cpu_bf16_native(machine: Machine) -> bool:
    """Whether the processor multiplies bf16 itself (AVX512-BF16, AMX or Arm BF16)."""
    return machine.cpu.bf16_native


def usable_gpus(machine: Machine) -> tuple[Gpu, ...]:
    """Cards and MIG slices that a run can be planned on: not split into slices, and known to have free memory."""
    return tuple(gpu for gpu in machine.gpus if gpu.mig != "parent" and (gpu.free_bytes or 0) > 0)
