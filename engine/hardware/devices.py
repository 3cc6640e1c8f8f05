"""Every CUDA device that NVML lists, MIG slices included, as `Gpu`.

A query that NVML refuses leaves its field `None`; what matters for the choice of a
card also leaves a note. Not here: which of them this process may use (`visible.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engine.hardware import arithmetic
from engine.hardware.gpus import GpuSpec, find_gpu
from engine.hardware.holders import gpu_processes
from engine.hardware.machine import Gpu
from engine.hardware.memory import GpuMemory, SystemMemory, gpu_memory
from engine.hardware.nvml import (
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    Session,
)

_INTEGRATED = re.compile(r"\b(GB10|N1X|Orin|Xavier|Thor|Tegra|Jetson)\b|nvgpu", re.IGNORECASE)
"""Parts that share the processor's memory, by name. Nothing else ever takes system RAM for GPU memory."""

_NO_SLICES = "MIG is on but holds no slice: make one (nvidia-smi mig -cgi 0 -C) or switch it off (nvidia-smi -mig 0)"


def list_gpus(session: Session, memory: SystemMemory, *, processes: bool = True, root: str = "/") -> tuple[Gpu, ...]:
    """Devices in NVML's order (PCI bus); a MIG parent stands before its slices, which share its `index`."""
    found = list_devices(session, memory)
    if not processes:
        return tuple(gpu for gpu, _ in found)
    return tuple(_with_processes(session, handle, gpu, root) for gpu, handle in found)


def list_devices(session: Session, memory: SystemMemory) -> tuple[tuple[Gpu, Any], ...]:
    """As `list_gpus`, without processes and each with NVML's handle; `None` for a card that cannot be opened."""
    found: list[tuple[Gpu, Any]] = []
    for index in range(int(session.value("nvmlDeviceGetCount") or 0)):
        answer = session.ask("nvmlDeviceGetHandleByIndex", index)
        if answer.code is None:
            found += _device(session, answer.value, index, memory)
        else:
            found.append((Gpu(name=f"GPU {index}", index=index, notes=(_unreadable(answer.code, answer.error),)), None))
    return tuple(found)


def seen_now(session: Session, handle: Any, gpu: Gpu, memory: SystemMemory, root: str = "/") -> Gpu:
    """`gpu` with the memory, sensors and processes of this moment; its notes say what cannot be read any more."""
    bare = replace(gpu, total_bytes=None, free_bytes=None, used_bytes=None, reserved_bytes=None)
    bare = bare if gpu.mig == "parent" else replace(bare, notes=())
    if gpu.mig == "slice":
        return _with_processes(session, handle, _filled(bare, gpu_memory(session, handle)), root)
    fresh = _with_sensors(session, handle, _with_memory(session, handle, bare, memory))
    return _with_processes(session, handle, fresh, root)


def _with_processes(session: Session, handle: Any, gpu: Gpu, root: str) -> Gpu:
    if handle is None or gpu.mig == "parent":
        return gpu
    return replace(gpu, processes=gpu_processes(session, handle, root))


def _device(session: Session, handle: Any, index: int, memory: SystemMemory) -> Iterator[tuple[Gpu, Any]]:
    gpu = Gpu(
        name=str(session.value("nvmlDeviceGetName", handle) or f"GPU {index}"),
        uuid=session.value("nvmlDeviceGetUUID", handle),
        index=index,
        pci_bus_id=_bus_id(session, handle),
    )
    gpu = _with_rates(session, handle, _with_memory(session, handle, gpu, memory))
    gpu = _with_sensors(session, handle, gpu)
    slices = _slices(session, handle)
    if slices or _mig_is_on(session, handle):
        note = () if slices else (_NO_SLICES,)
        yield replace(gpu, mig="parent", notes=(*gpu.notes, *note)), handle
        for number, part in slices:
            yield _slice(session, part, number, gpu), part
        return
    yield gpu, handle


def _bus_id(session: Session, handle: Any) -> str | None:
    info = session.value("nvmlDeviceGetPciInfo", handle)
    bus_id = getattr(info, "busId", None)
    return bus_id.decode() if isinstance(bus_id, bytes) else bus_id


def _with_memory(session: Session, handle: Any, gpu: Gpu, system: SystemMemory) -> Gpu:
    shared = bool(_INTEGRATED.search(gpu.name))
    memory = gpu_memory(session, handle)
    if memory.total_bytes is None and shared and memory.code in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):
        total, free = system.host_total_bytes, system.host_available_bytes
        note = "memory is shared with the processor: total and free are those of the system (/proc/meminfo)"
        return replace(
            gpu, unified_memory=True, total_bytes=total, free_bytes=free, used_bytes=total - free, notes=(note,)
        )
    return replace(_filled(gpu, memory), unified_memory=shared)


def _filled(gpu: Gpu, memory: GpuMemory) -> Gpu:
    """`gpu` with NVML's figures, or with the reason why there are none."""
    note = (_unreadable(memory.code, memory.error),) if memory.total_bytes is None else ()
    return replace(
        gpu,
        total_bytes=memory.total_bytes,
        free_bytes=memory.free_bytes,
        used_bytes=memory.used_bytes,
        reserved_bytes=memory.reserved_bytes,
        notes=(*gpu.notes, *note),
    )


def _unreadable(code: int | None, error: str) -> str:
    if code in (GPU_IS_LOST, RESET_REQUIRED):
        return f"does not answer any more ({error}): restart the machine; look for 'Xid' in dmesg if it happens again"
    if code == NO_PERMISSION:
        return f"the driver does not show its memory here ({error})"
    return f"its memory cannot be read ({error})"


def _with_rates(session: Session, handle: Any, gpu: Gpu) -> Gpu:
    """Capability, multiprocessors, tensor rate and bandwidth: table first, arithmetic from clocks otherwise."""
    spec = find_gpu(gpu.name, gpu.total_bytes)
    pair = session.value("nvmlDeviceGetCudaComputeCapability", handle)
    capability = (int(pair[0]), int(pair[1])) if pair else spec.compute_capability if spec else None
    cores = session.value("nvmlDeviceGetNumGpuCores", handle)
    processors = arithmetic.multiprocessors(cores, capability) or (spec.multiprocessors if spec else None)
    gpu = replace(gpu, compute_capability=capability, multiprocessors=processors)
    return _with_spec(gpu, spec) if spec else _with_arithmetic(session, handle, gpu)


def _with_spec(gpu: Gpu, spec: GpuSpec) -> Gpu:
    return replace(gpu, tensor_flops=spec.tensor_flops, memory_bandwidth_bytes_s=spec.memory_bandwidth_bytes_s)


def _with_arithmetic(session: Session, handle: Any, gpu: Gpu) -> Gpu:
    library = session.library
    core_mhz = session.value("nvmlDeviceGetMaxClockInfo", handle, getattr(library, "NVML_CLOCK_SM", 1))
    memory_mhz = session.value("nvmlDeviceGetMaxClockInfo", handle, getattr(library, "NVML_CLOCK_MEM", 2))
    bus_bits = session.value("nvmlDeviceGetMemoryBusWidth", handle)
    flops = arithmetic.tensor_flops(gpu.name, gpu.multiprocessors, gpu.compute_capability, core_mhz)
    rate = arithmetic.memory_bandwidth_bytes_s(memory_mhz, bus_bits)
    known = "computed from its clocks" if flops or rate else "not known"
    note = f"not in the table of known cards: its rates are {known}"
    return replace(gpu, tensor_flops=flops, memory_bandwidth_bytes_s=rate, notes=(*gpu.notes, note))


def _with_sensors(session: Session, handle: Any, gpu: Gpu) -> Gpu:
    power_mw = session.value("nvmlDeviceGetPowerUsage", handle)
    limit_mw = session.value("nvmlDeviceGetEnforcedPowerLimit", handle)
    sensor = getattr(session.library, "NVML_TEMPERATURE_GPU", 0)
    rates = session.value("nvmlDeviceGetUtilizationRates", handle)
    return replace(
        gpu,
        power_w=power_mw / 1000 if power_mw is not None else None,
        power_limit_w=limit_mw / 1000 if limit_mw is not None else None,
        temperature_c=session.value("nvmlDeviceGetTemperature", handle, sensor),
        utilization_percent=int(rates.gpu) if rates is not None else None,
    )


def _mig_is_on(session: Session, handle: Any) -> bool:
    modes = session.value("nvmlDeviceGetMigMode", handle)
    return bool(modes and modes[0] == 1)


def _slices(session: Session, handle: Any) -> list[tuple[int, Any]]:
    """Numbers and handles of the MIG devices. A container may see one while the parent answers 'no permission'."""
    mode = session.ask("nvmlDeviceGetMigMode", handle)
    if not (mode.code == NO_PERMISSION or (mode.value and mode.value[0] == 1)):
        return []
    count = int(session.value("nvmlDeviceGetMaxMigDeviceCount", handle) or 0)
    answers = [session.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, number) for number in range(count)]
    return [(number, answer.value) for number, answer in enumerate(answers) if answer.code is None]


def _slice(session: Session, handle: Any, number: int, parent: Gpu) -> Gpu:
    """One MIG device. Rates are the parent's, in proportion to multiprocessors and memory."""
    attributes = session.value("nvmlDeviceGetAttributes_v2", handle)
    processors = int(attributes.multiprocessorCount) if attributes is not None else None
    gpu = Gpu(
        name=str(session.value("nvmlDeviceGetName", handle) or f"{parent.name} MIG"),
        uuid=session.value("nvmlDeviceGetUUID", handle),
        index=parent.index,
        pci_bus_id=parent.pci_bus_id,
        compute_capability=parent.compute_capability,
        mig="slice",
        mig_index=number,
        multiprocessors=processors,
    )
    gpu = _filled(gpu, gpu_memory(session, handle))
    spec = find_gpu(parent.name, parent.total_bytes)
    whole = parent.multiprocessors or (spec.multiprocessors if spec else None)
    total = parent.total_bytes or (spec.total_bytes if spec else None)
    return replace(
        gpu,
        tensor_flops=_share(parent.tensor_flops, processors, whole),
        memory_bandwidth_bytes_s=_share(parent.memory_bandwidth_bytes_s, gpu.total_bytes, total),
    )


def _share(rate: float | None, part: int | None, whole: int | None) -> float | None:
    return rate * min(1.0, part / whole) if rate and part and whole else None
