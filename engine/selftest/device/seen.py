"""Does torch see the device that the driver reports, and does it multiply right?"""

from __future__ import annotations

from typing import Any

import torch

from engine.selftest.checks import FAILED, PASSED, Finding
from engine.text import format_bytes

_WIDTH = 256
_MEMORY_SHARE = 0.1
"""Driver and CUDA count a card's memory a little differently."""


def torch_view(params: dict[str, Any]) -> Finding:
    """Name, capability and memory of the card as NVML has them, and one product against the processor's."""
    if params["device"] == "cuda":
        if not torch.cuda.is_available():
            return Finding(
                "", FAILED, "torch finds no CUDA device: 'engine probe' says what driver and torch build are"
            )
        wrong = _differences(params)
        if wrong:
            return Finding("", FAILED, wrong)
    exact = torch.randn(_WIDTH, _WIDTH, generator=torch.Generator().manual_seed(0))
    error = float((exact.to(params["device"]) @ exact.to(params["device"])).cpu().sub(exact @ exact).abs().max())
    if not error < 1e-2:
        return Finding("", FAILED, f"a product of two matrices is off by {error:.3g}")
    threads = torch.get_num_threads()
    where = _card() if params["device"] == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
    return Finding("", PASSED, f"torch {torch.__version__}, {where}", {"threads": threads, "product_error": error})


def _differences(params: dict[str, Any]) -> str:
    found = torch.cuda.get_device_properties(0)
    if list((found.major, found.minor)) != params["capability"]:
        return f"torch sees capability {found.major}.{found.minor}, the driver {params['capability']}"
    told = params.get("total_bytes")
    if told and abs(found.total_memory / told - 1) > _MEMORY_SHARE:
        return f"torch sees {format_bytes(found.total_memory)}, the driver {format_bytes(told)}"
    return ""


def _card() -> str:
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, capability {found.major}.{found.minor}, {format_bytes(found.total_memory)}"
