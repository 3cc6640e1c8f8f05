"""The processor: name, cores this process may use, and whether it multiplies bf16 itself.

Reads `/proc` and `/sys`; `apple.py` stands in on macOS, psutil elsewhere without `/proc`.
"""

from __future__ import annotations

import math
import os
import sys

from engine.hardware import cgroup
from engine.hardware.files import read_text
from engine.hardware.machine import Cpu

_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_fp16",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
    "sme",
)
_BF16 = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
_ARM_PARTS = {
    "0xd0c": "Arm Neoverse N1",
    "0xd40": "Arm Neoverse V1",
    "0xd42": "Arm Cortex-A78AE",
    "0xd49": "Arm Neoverse N2",
    "0xd4f": "Arm Neoverse V2",
    "0xd83": "Arm Neoverse V3AE",
    "0xd84": "Arm Neoverse V3",
    "0xd85": "Arm Cortex-X925",
    "0xd87": "Arm Cortex-A725",
    "0xd8e": "Arm Neoverse N3",
}
"""Arm's part numbers; `/proc/cpuinfo` has no name on these processors."""


def read_cpu(root: str = "/") -> tuple[Cpu, tuple[str, ...]]:
    """The processor and a note where a container or an affinity mask allows less than there is."""
    if sys.platform == "darwin":
        from engine.hardware.apple import read_apple_cpu

        return read_apple_cpu()
    info = _first_block(read_text(root, "proc/cpuinfo", 16384))
    flags = set((info.get("flags") or info.get("Features") or "").split())
    allowed = _allowed_processors()
    physical = _physical_cores(root, allowed)
    quota = cgroup.cpu_limit(root)
    logical = min(len(allowed), max(1, math.ceil(quota))) if quota else len(allowed)
    cpu = Cpu(
        name=_name(info, root),
        physical_cores=min(physical, logical),
        logical_cores=logical,
        bf16_native=bool(flags & _BF16),
        features=tuple(feature for feature in _FEATURES if feature in flags),
    )
    return cpu, _limit_notes(logical, quota)


def _limit_notes(logical: int, quota: float | None) -> tuple[str, ...]:
    there = os.cpu_count() or logical
    if logical >= there:
        return ()
    reason = f"a container limit of {quota:g} processors" if quota and quota < there else "an affinity mask"
    return (f"{reason} leaves {logical} of {there} processors",)


def _first_block(text: str) -> dict[str, str]:
    """Keys of the first processor. The name stands in a block of its own on some Arm kernels."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _name(info: dict[str, str], root: str) -> str:
    board = read_text(root, "proc/device-tree/model", 256).strip()
    part = _ARM_PARTS.get(info.get("CPU part", "").lower(), "") if info.get("CPU implementer") == "0x41" else ""
    named = info.get("model name") or info.get("Hardware") or part
    if named:
        return " ".join(named.split())
    return board or f"unknown processor ({os.uname().machine})"


def _allowed_processors() -> list[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


def _physical_cores(root: str, allowed: list[int]) -> int:
    """Cores behind the allowed processors: those with the same siblings are one core."""
    cores = {
        read_text(root, f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", 256) for number in allowed
    } - {""}
    if cores:
        return len(cores)
    if read_text(root, "proc/cpuinfo", 64):
        return len(allowed)
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return int(psutil.cpu_count(logical=False) or len(allowed))
