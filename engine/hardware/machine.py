"""What a machine is, as plain data: read by the fit, the recommender, the deck and `engine probe`.

Not here: finding any of it out (`probe.py`) and judging it (`capabilities.py`). Every field that a
driver may refuse to tell is optional: `None` means "not known", never zero.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on a GPU; pid as the driver reports it (host pid in containers)."""

    pid: int
    used_bytes: int | None = None
    name: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device, or one MIG slice. Memory in bytes, clocks and rates in the named unit."""

    name: str
    uuid: str | None = None
    index: int | None = None
    pci_bus_id: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    used_bytes: int | None = None
    reserved_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    unified_memory: bool = False
    mig: str = "none"
    """`none`, `slice` (this is a MIG device) or `parent` (split into slices, not usable itself)."""
    mig_index: int | None = None
    """Number of a slice within its card."""
    multiprocessors: int | None = None
    memory_bandwidth_bytes_s: float | None = None
    tensor_flops: float | None = None
    """Dense bf16/fp16 tensor rate with fp32 accumulation, FLOP/s."""
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    utilization_percent: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    hypothetical: bool = False
    """True for a card that was named, not found."""
    notes: tuple[str, ...] = ()
    """Why a field is missing or where its value came from."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor; `bf16_native` means AVX512-BF16, AMX or ARM BF16 instructions are there."""

    name: str
    physical_cores: int
    logical_cores: int
    bf16_native: bool = False
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything the engine knows of the place it runs in."""

    hostname: str
    cpu: Cpu
    ram_total_bytes: int
    ram_available_bytes: int
    disk_path: str
    disk_free_bytes: int
    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_driver_version: tuple[int, int] | None = None
    torch_version: str | None = None
    """From package metadata, never by importing torch."""
    torch_cuda_version: str | None = None
    cuda_visible_devices: str | None = None
    notes: tuple[str, ...] = ()
