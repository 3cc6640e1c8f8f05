"""What a device can sustain: arithmetic rate, memory rate, share of the peak that training reaches.

The shares come from published runs that state configuration and tokens per second (torchtune, Qwen, fitcheck, PEFT),
scaled to eager execution, and for Hopper from steps measured on an H200; they are rough, and the run's own measured
rate replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.hardware.arithmetic import fp32_share
from engine.hardware.machine import Cpu, Gpu
from engine.speed.measured import DtypeRates, MeasuredRates

_CLOCK_HZ = 2.7e9
"""Sustained clock under vector load: a guess that is right within about a half."""
_CPU_SHARE = 0.9
"""Of the fp32 peak, in large products."""
_BF16_GAIN = {"amx": 6.5, "avx512_bf16": 1.8, "": 0.3}
"""bf16 against fp32 in large products: tiles, vectors of pairs, emulation."""
_VALUE_S, _SCORE_S, _LOGIT_S = 70e-9, 7.5e-9, 1.8e-9
"""What `DtypeRates` holds, on one core of a Sapphire Rapids server in fp32."""
_CPU_BANDWIDTH_BYTES_S = 8e9
"""Memory rate a core gets; only the optimizer step and dequantization read it."""
_COPY_SHARE = 0.9
"""Of a card's memory rate on paper, what a copy reaches."""
_PRODUCT_SHARE = 0.85
"""Of a card's tensor rate on paper, what a large product reaches."""
_SHARE = {(7, 0): 0.28, (7, 5): 0.20, (8, 0): 0.47, (8, 6): 0.55, (8, 7): 0.45, (8, 9): 0.70, (9, 0): 0.44}
_ANCHORED = frozenset(((7, 5), (8, 0), (8, 9), (9, 0)))
"""Capabilities with published or measured runs behind their share."""
_MOST_SHARE = 0.75
"""Of the tensor rate on paper, the most that a step with Triton kernels is believed to reach: an H200 reaches 0.59.
The share of capability 8.9 comes from runs with compiled layers, which save the same traffic once already."""
_HOST_BYTES_S = {7: 12e9, 8: 25e9}
"""What PCIe 3.0 and 4.0 x16 copy to and from pinned memory, by the major capability of cards that have them."""
_NEW_HOST_BYTES_S = 50e9
"""PCIe 5.0, from Hopper on."""
_FP32_SHARE = 0.75
"""In fp32 more of the time goes into products: a guess."""
_NEW_SHARE = 0.33
_RTX_50_SHARE = 0.55
_STARVED_SHARE = 0.35
_STARVED_FLOP_PER_BYTE = 300.0
"""Cards with more arithmetic per byte of bandwidth than this (L4, L40S) reach a lower share."""


TABLE, CLOCKS, CORES = "from the table of cards", "from the card's clocks", "from the number of cores"
MEASURED = "rates measured on this machine"


@dataclass(frozen=True, slots=True)
class Rates:
    """FLOP/s that training reaches, bytes/s of device memory, and where the figures come from."""

    flops: float
    bandwidth_bytes_s: float
    low_confidence: bool
    source: str = TABLE
    """Where the figures come from, as a person reads it."""
    processor: DtypeRates | None = None
    """On a processor, what its time model needs."""
    measured: bool = False
    """Whether this very device was measured."""
    host_bytes_s: float = 0.0
    """Between a card and pinned main memory, each way; 0 on a processor."""
    most_flops: float = 0.0
    """FLOP/s that no kernels exceed; 0 where there is no such figure."""


def gpu_rates(gpu: Gpu, dtype: str, measured: MeasuredRates | None = None) -> Rates | None:
    """Rates of a card as measured, else by the driver's or the table's figures; None when neither knows it."""
    return _measured_gpu(gpu, dtype, measured) or _known_gpu(gpu, dtype)


def _measured_gpu(gpu: Gpu, dtype: str, measured: MeasuredRates | None) -> Rates | None:
    found = measured.dtypes.get(dtype) if measured else None
    if measured is None or found is None:
        return None
    peak, bandwidth = (
        max(flops for _, flops in found.products) / _PRODUCT_SHARE,
        measured.bandwidth_bytes_s / _COPY_SHARE,
    )
    share = _FP32_SHARE if dtype == "fp32" else _share(gpu.compute_capability, peak / bandwidth)
    low = dtype == "fp32" or gpu.compute_capability not in _ANCHORED
    host = _host_rate(gpu.compute_capability)
    most = _MOST_SHARE * peak
    return Rates(peak * share, bandwidth, low, MEASURED, measured=True, host_bytes_s=host, most_flops=most)


def _host_rate(capability: tuple[int, int] | None) -> float:
    return _HOST_BYTES_S.get(capability[0], _NEW_HOST_BYTES_S) if capability else min(_HOST_BYTES_S.values())


@lru_cache(maxsize=64)
def _known_gpu(gpu: Gpu, dtype: str) -> Rates | None:
    flops, bandwidth, capability = gpu.tensor_flops, gpu.memory_bandwidth_bytes_s, gpu.compute_capability
    from engine.hardware.gpus import find_gpu

    whole = gpu.name.partition(" MIG")[0]
    known = find_gpu(whole, gpu.total_bytes) or find_gpu(whole)
    if known:
        flops, bandwidth = flops or known.tensor_flops, bandwidth or known.memory_bandwidth_bytes_s
        capability = capability or known.compute_capability
    if not flops or not bandwidth:
        return None
    low, source = known is None or capability not in _ANCHORED, TABLE if known else CLOCKS
    host = _host_rate(capability)
    if dtype == "fp32":
        rate = flops * fp32_share(gpu.name, capability) * _FP32_SHARE
        return Rates(rate, bandwidth, True, source, host_bytes_s=host)
    rate, most = flops * _share(capability, flops / bandwidth), _MOST_SHARE * flops
    return Rates(rate, bandwidth, low, source, host_bytes_s=host, most_flops=most)


def cpu_rates(cpu: Cpu, dtype: str, measured: MeasuredRates | None = None) -> Rates:
    """Rates of a processor as measured, else a rough figure from cores and vector width, which says so."""
    found = measured.dtypes.get(dtype) if measured else None
    if measured is None or found is None:
        guess = _guess(cpu, dtype)
        return Rates(guess.flops_at(1), cpu.physical_cores * _CPU_BANDWIDTH_BYTES_S, True, CORES, guess)
    flops = max(rate for _, rate in found.products)
    return Rates(flops, measured.bandwidth_bytes_s, False, MEASURED, found, measured=True)


def _guess(cpu: Cpu, dtype: str) -> DtypeRates:
    flops_per_cycle = 64 if any(flag.startswith("avx512") for flag in cpu.features) else 32
    if any("neon" in flag or "asimd" in flag for flag in cpu.features):
        flops_per_cycle = 16
    rate, slower = cpu.physical_cores * _CLOCK_HZ * flops_per_cycle * _CPU_SHARE, 64 / flops_per_cycle
    if dtype != "fp32":
        amx = "amx_bf16" in cpu.features
        rate *= _BF16_GAIN["amx" if amx else "avx512_bf16" if cpu.bf16_native else ""]
        slower *= 1.0 if cpu.bf16_native else 3.0
    # Short operations hardly split: threads that sleep between them take as long to wake as they save.
    slower /= cpu.physical_cores**0.25
    return DtypeRates(((1024, rate),), _VALUE_S * slower, _SCORE_S * slower, _LOGIT_S * slower)


def _share(capability: tuple[int, int] | None, flop_per_byte: float) -> float:
    if capability is None:
        return _STARVED_SHARE
    if capability < (9, 0) and capability >= (8, 0) and flop_per_byte > _STARVED_FLOP_PER_BYTE:
        return _STARVED_SHARE
    return _SHARE.get(capability, _RTX_50_SHARE if capability[0] == 12 else _NEW_SHARE)
