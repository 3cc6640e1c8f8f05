"""Where the next trial can run: GPUs that nobody of the sweep holds and that have room, or the processor.

Not here: which trial comes next.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engine.hardware.capabilities import usable_gpus
from engine.hardware.machine import Machine


def free_slots(
    machine: Machine,
    device: str,
    parallel: int | None,
    needed_bytes: int,
    busy: Collection[str | None],
    only: str | None = None,
) -> list[str | None]:
    """UUIDs of GPUs with `needed_bytes` free (None = the processor), as many as may still be filled.

    `busy` holds the slots of trials at work. At most `parallel` in all; without it one on each GPU, one on a processor.
    `only`: the one GPU that the profile names.
    """
    if device != "cuda":
        return [None] * max(0, (parallel or 1) - len(busy))
    usable = (gpu for gpu in usable_gpus(machine) if (gpu.free_bytes or 0) >= needed_bytes)
    roomy: list[str | None] = [gpu.uuid for gpu in usable if gpu.uuid and only in (None, gpu.uuid)]
    most = len(roomy) + len(busy) if parallel is None else parallel
    return [uuid for uuid in roomy if uuid not in busy][: max(0, most - len(busy))]


def fixed_for(machine: Machine, device: str, parallel: int | None, slot: str | None) -> dict[str, Any]:
    """Settings that the slot decides: its GPU, or a share of the processor's cores."""
    if device == "cuda":
        return {"launch.gpu": slot} if slot else {}
    return {"launch.threads": max(1, machine.cpu.physical_cores // parallel)} if parallel and parallel > 1 else {}
