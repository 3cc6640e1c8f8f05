"""The processor of a Mac, from the kernel's sysctl names.

Apple's GPU is left out on purpose: the engine trains with CUDA or on the processor, so the memory that
counts here is the machine's, which both share.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from engine.hardware.machine import Cpu

GPU_NOTE = "Apple's GPU is not used: runs train on the processor, in the memory that both share"
_FEATURES = {"hw.optional.arm.FEAT_BF16": "bf16", "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.AdvSIMD": "asimd"}
Sysctl = Callable[[str], bytes]


def read_apple_cpu(sysctl: Sysctl | None = None) -> tuple[Cpu, tuple[str, ...]]:
    """Name, cores and features; fast cores only where the kernel tells them from the efficient ones.

    `bf16_native` stays False even where the instructions are there: torch multiplies through Apple's
    Accelerate on macOS, which is fast in fp32 alone.
    """
    read = sysctl or _sysctl
    logical = _number(read("hw.logicalcpu")) or os.cpu_count() or 1
    physical = _number(read("hw.perflevel0.physicalcpu")) or _number(read("hw.physicalcpu")) or logical
    name = read("machdep.cpu.brand_string").split(b"\0")[0].decode("utf-8", "replace").strip()
    features = tuple(label for key, label in _FEATURES.items() if _number(read(key)))
    return Cpu(name or "unknown Apple processor", physical, logical, False, features), (GPU_NOTE,)


def _number(raw: bytes) -> int:
    """A 32 or 64 bit integer as sysctl hands it over; 0 for a name that the kernel does not know."""
    return int.from_bytes(raw, "little") if len(raw) in (4, 8) else 0


def _sysctl(name: str) -> bytes:
    """The value of `name`, empty when there is none."""
    call = ctypes.CDLL(None).sysctlbyname
    size = ctypes.c_size_t(0)
    if call(name.encode(), None, ctypes.byref(size), None, 0) or not size.value:
        return b""
    buffer = ctypes.create_string_buffer(size.value)
    return b"" if call(name.encode(), buffer, ctypes.byref(size), None, 0) else buffer.raw[: size.value]
