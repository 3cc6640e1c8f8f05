"""`python -m bench.gpu.card`: what the card is, what it is made of, and what it can do at best.

Ceilings are what large products, a copy on the card and copies from and to pinned memory reach; every floor of the
tables starts from them. The best of several, because others' work and warming up only ever make it slower.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from bench.gpu.job import told

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "triton", "liger_kernel", "torchao")
_WIDTHS = {"cuda": (4096, 8192), "cpu": (512,)}
_COPY_BYTES = {"cuda": 2**30, "cpu": 2**26}
_REPEATS, _LAUNCHES = 5, 5


def facts() -> dict[str, Any]:
    """Name, memory, driver and versions."""
    found: dict[str, Any] = {
        "card": "processor",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "versions": {name: text for name in _PACKAGES if (text := _version(name))},
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "card": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": [properties.major, properties.minor],
            "driver": _driver(),
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def ceilings(device: str) -> dict[str, Any]:
    """bf16 products in FLOP/s by width; bytes per second of copies, counting bytes read and written on the card."""
    found: dict[str, Any] = {"product_flops": {str(width): product_flops(device, width) for width in _WIDTHS[device]}}
    size = _COPY_BYTES[device]
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy_bytes_s"] = 2 * size / _best_s(lambda: target.copy_(source), device)
    if device == "cuda":
        pinned = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        found["to_device_bytes_s"] = size / _best_s(lambda: target.copy_(pinned, non_blocking=True), device)
        found["to_host_bytes_s"] = size / _best_s(lambda: pinned.copy_(source, non_blocking=True), device)
    return found


def product_flops(device: str, width: int) -> float:
    """FLOP/s of a square bf16 product."""
    left, right = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * width**3 / _best_s(lambda: torch.mm(left, right), device)


def _best_s(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call, in the best of several rounds."""
    rounds = []
    for _ in range(_REPEATS + 1):
        began = _clock(device)
        for _ in range(_LAUNCHES):
            work()
        rounds.append((_clock(device) - began) / _LAUNCHES)
    return min(rounds[1:])


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    told({**facts(), "ceilings": ceilings("cuda" if torch.cuda.is_available() else "cpu")})
