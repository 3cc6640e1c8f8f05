"""Peak rates of a card that is in no table, from what NVML knows of any card: clocks, cores, bus width.

Arithmetic only: the maximum clock is above the one a card sustains, so the tensor rate
is an upper bound. Not here: the table (`gpus.py`).
"""

from __future__ import annotations

_CORES_PER_MULTIPROCESSOR = {(6, 0): 64, (7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}
"""CUDA programming guide, arithmetic throughput table; 128 for every other capability from 5.0 on."""

_FLOPS_PER_CLOCK = {7: 1024, 8: 1024, 9: 4096, 10: 8192, 11: 8192, 12: 1024}
"""Dense fp16/bf16 tensor FLOPs per multiprocessor and clock, fp32 accumulation, by major capability."""

_FLOPS_PER_CLOCK_EXACT = {(8, 0): 2048, (8, 7): 2048}


def multiprocessors(cores: int | None, capability: tuple[int, int] | None) -> int | None:
    """CUDA cores over the cores of one multiprocessor; `None` where either is unknown."""
    if not cores or capability is None:
        return None
    return cores // _CORES_PER_MULTIPROCESSOR.get(capability, 128) or None


def tensor_flops(
    name: str, processors: int | None, capability: tuple[int, int] | None, clock_mhz: int | None
) -> float | None:
    """Multiprocessors x clock x rate of one; GeForce runs at half rate when it accumulates in fp32."""
    if not processors or not clock_mhz or capability is None:
        return None
    rate = _FLOPS_PER_CLOCK_EXACT.get(capability) or _FLOPS_PER_CLOCK.get(capability[0])
    if rate is None:
        return None
    half = 2 if "geforce" in name.lower() else 1
    return processors * clock_mhz * 1e6 * rate / half


def fp32_share(name: str, capability: tuple[int, int] | None) -> float:
    """fp32 FLOPs against `tensor_flops`: two a core and clock, no tensor cores (torch leaves TF32 off)."""
    capability = capability or (8, 6)
    tensor = _FLOPS_PER_CLOCK_EXACT.get(capability) or _FLOPS_PER_CLOCK.get(capability[0], 1024)
    half = 2 if "geforce" in name.lower() else 1
    return 2 * _CORES_PER_MULTIPROCESSOR.get(capability, 128) * half / tensor


def memory_bandwidth_bytes_s(clock_mhz: int | None, bus_bits: int | None) -> float | None:
    """Two transfers a clock over the bus: 10501 MHz x 384 bit = 1008 GB/s."""
    if not clock_mhz or not bus_bits:
        return None
    return 2 * clock_mhz * 1e6 * bus_bits / 8
