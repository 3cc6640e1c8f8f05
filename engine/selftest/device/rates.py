"""What the device does in products and copies: kept for predictions, compared with its kind's rates on paper."""

from __future__ import annotations

from typing import Any

from engine.hardware.gpus import find_gpu
from engine.hardware.machine import Gpu
from engine.hardware.probe import probe_machine
from engine.measure.device import keep_rates
from engine.measure.microbench import measure, measured_dtypes
from engine.selftest.checks import FAILED, PASSED, Finding
from engine.selftest.device.trial import card_of
from engine.speed.measured import MeasuredRates

_LEAST_SHARE = 0.4
"""Of the rate on paper: a card that reaches less is held back by power, heat, clocks or somebody else."""


def rates(params: dict[str, Any]) -> Finding:
    """Measure, keep, judge: on a processor there is nothing on paper to judge by."""
    device, machine = str(params["device"]), probe_machine(processes=False)
    gpu = card_of(machine) if device == "cuda" else None
    found = measure(device, measured_dtypes(device))
    kept = (gpu is None) == (device == "cpu") and keep_rates(found, gpu, machine)
    best = {name: max(rate for _, rate in dtype.products) for name, dtype in found.dtypes.items()}
    figures = {f"{name}_flops": rate for name, rate in best.items()}
    figures |= {"bandwidth_bytes_s": found.bandwidth_bytes_s, "kept": kept}
    shown = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in best.items())
    text = f"{shown} TFLOP/s, copies {found.bandwidth_bytes_s / 1e9:,.0f} GB/s"
    slow = _slow(gpu, found, best) if gpu else ""
    return Finding("", FAILED if slow else PASSED, text + (f": {slow}" if slow else ""), figures)


def _slow(gpu: Gpu, found: MeasuredRates, best: dict[str, float]) -> str:
    """What is far below the card's rates on paper; empty where nothing is, or nothing is known."""
    known = find_gpu(gpu.name, gpu.total_bytes)
    if known is None or gpu.mig != "none":
        return ""
    tensor = best.get("bf16", best.get("fp16", 0.0))
    for what, measured, paper in (
        ("copies", found.bandwidth_bytes_s, known.memory_bandwidth_bytes_s),
        ("products", tensor, known.tensor_flops),
    ):
        if paper and measured < _LEAST_SHARE * paper:
            return f"{what} reach {measured / paper:.0%} of the card's rate on paper"
    return ""
