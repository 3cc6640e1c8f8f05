"""Memory of the system and of one GPU, as bytes that add up.

`system_memory` reads Linux's own figures and the limits of the container around us; `gpu_memory`
checks NVML's arithmetic. Not here: how much of it to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.hardware import cgroup
from engine.hardware.files import read_text
from engine.hardware.nvml import FUNCTION_NOT_FOUND, Session

_ARGUMENT_VERSION_MISMATCH = 25


@dataclass(frozen=True, slots=True)
class SystemMemory:
    """`total_bytes` and `available_bytes` are what this process may use, the `host_` ones what the machine has."""

    total_bytes: int
    available_bytes: int
    host_total_bytes: int
    host_available_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """NVML's figures with `total = free + used + reserved`; all `None` and an `error` where it gave none."""

    total_bytes: int | None = None
    free_bytes: int | None = None
    used_bytes: int | None = None
    reserved_bytes: int | None = None
    code: int | None = None
    error: str = ""


def system_memory(root: str = "/") -> SystemMemory:
    """Total and available RAM: the least of `/proc/meminfo` and every cgroup limit above this process."""
    host_total, host_available = _meminfo(root)
    total, available, notes = host_total, host_available, []
    for limit in cgroup.memory_limits(root):
        if limit.limit_bytes < total:
            total = limit.limit_bytes
            notes = [f"a container limit leaves {total / 1024**3:.1f} of {host_total / 1024**3:.1f} GiB of memory"]
        available = min(available, max(0, limit.limit_bytes - limit.used_bytes))
    return SystemMemory(total, min(available, total), host_total, host_available, tuple(notes))


def _meminfo(root: str) -> tuple[int, int]:
    values = {}
    for line in read_text(root, "proc/meminfo").splitlines():
        key, _, rest = line.partition(":")
        if key in ("MemTotal", "MemAvailable", "MemFree"):
            values[key] = int(rest.split()[0]) * 1024
    if "MemTotal" not in values:
        import psutil  # type: ignore[import-untyped, unused-ignore]

        memory = psutil.virtual_memory()
        return int(memory.total), int(memory.available)
    return values["MemTotal"], values.get("MemAvailable", values.get("MemFree", 0))


def gpu_memory(session: Session, handle: Any) -> GpuMemory:
    """Version 2 of NVML's figures where the driver has it, else version 1, which counts the reserve as used."""
    answer = session.ask("nvmlDeviceGetMemoryInfo", handle, version=getattr(session.library, "nvmlMemory_v2", None))
    if answer.code in (FUNCTION_NOT_FOUND, _ARGUMENT_VERSION_MISMATCH):
        answer = session.ask("nvmlDeviceGetMemoryInfo", handle)
    if answer.value is None:
        return GpuMemory(code=answer.code, error=answer.error)
    info = answer.value
    return _checked(int(info.total), int(info.free), int(info.used), getattr(info, "reserved", None))


def _checked(total: int, free: int, used: int, reserved: int | None) -> GpuMemory:
    """Drivers differ in whether `used` counts the reserve, so it is taken from what is left instead."""
    if total <= 0 or not 0 <= free <= total:
        return GpuMemory(error=f"NVML's figures do not add up (total {total}, free {free}, used {used} bytes)")
    if reserved is None or not 0 <= reserved <= total - free:
        return GpuMemory(total, free, total - free, None)
    return GpuMemory(total, free, total - free - reserved, int(reserved))
