"""Machines that are not here, and the two tables that every profile needs."""

from __future__ import annotations

from engine.hardware.machine import Cpu, Gpu, Machine

GIB = 1024**3
MODEL = '[model]\nname_or_path = "demo"\nmax_length = 128\n'
DATA = '[[data.datasets]]\npath = "train.jsonl"\n'


def machine(*gpus: Gpu) -> Machine:
    """Eight cores, 64 GiB of memory, and these GPUs."""
    return Machine("box", Cpu("CPU", 8, 16, bf16_native=True), 64 * GIB, 60 * GIB, "/", 500 * GIB, gpus=gpus)


def gpu(uuid: str = "GPU-aaaa1111", free_gib: float = 23.0, capability: tuple[int, int] = (8, 6)) -> Gpu:
    """A 24 GiB card."""
    return Gpu(
        "Card",
        uuid=uuid,
        index=0,
        total_bytes=24 * GIB,
        free_bytes=int(free_gib * GIB),
        compute_capability=capability,
        multiprocessors=82,
        memory_bandwidth_bytes_s=936e9,
        tensor_flops=71e12,
    )
