"""Probe this machine: GPUs, processor, memory, disk and the torch that is installed.

It never imports torch and never makes a CUDA context,
which would take hundreds of MiB from the card it measures. Not here: judging the result (`capabilities.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from engine.errors import EngineError, ExitCode
from engine.hardware.devices import list_gpus
from engine.hardware.machine import Gpu, Machine
from engine.hardware.memory import system_memory
from engine.hardware.named import MOST_CARDS, NamedCards, named_cards
from engine.hardware.nvml import open_nvml
from engine.hardware.processor import read_cpu
from engine.hardware.torch_build import find_torch, mismatch_notes
from engine.hardware.visible import visible_gpus


def probe_machine(*, processes: bool = True) -> Machine:
    """This machine as it is now. `processes=False` leaves out who holds GPU memory. Never raises for hardware."""
    return read_machine("/", os.environ, processes=processes)


def read_machine(root: str, environ: Mapping[str, str], *, processes: bool = True) -> Machine:
    """`probe_machine` over the kernel files below `root`; NVML and torch are this environment's."""
    machine = _without_gpus(root, environ)
    memory = system_memory(root)
    torch = find_torch()
    with open_nvml() as session:
        problem = session.problem
        driver, cuda_driver = (None, None) if problem else (session.driver_version(), session.cuda_driver_version())
        found = () if problem else list_gpus(session, memory, processes=processes, root=root)
    gpus, hidden = visible_gpus(found, environ)
    notes = [problem] if problem else [] if found else ["the NVIDIA driver is loaded and lists no GPU"]
    notes += [*hidden, *mismatch_notes(torch, driver, cuda_driver, gpus)]
    return replace(
        machine,
        gpus=gpus,
        driver_version=driver,
        cuda_driver_version=cuda_driver,
        notes=(*notes, *machine.notes),
    )


def hypothetical_machine(gpu_name: str, count: int = 1) -> Machine:
    """This machine's processor and memory with `count` empty cards of the table instead of its own.

    `gpu_name` may hold the number too (`2 x RTX 4090`). Raises EngineError(PROFILE) for a name that is not in the table
    or means several cards, and for a count below 1.
    """
    if not 1 <= count <= MOST_CARDS:
        raise EngineError(
            f"{count} GPUs cannot be planned for", code=ExitCode.PROFILE, hint=f"use 1 to {MOST_CARDS}", where="gpu"
        )
    named = named_cards(gpu_name, count)
    machine = _without_gpus("/", os.environ)
    gpus = tuple(_hypothetical(named, index) for index in range(named.count))
    note = f"{named.count} x {named.spec.name} from the table of known cards, with nothing running on them"
    return replace(machine, gpus=gpus, cuda_visible_devices=None, notes=(note, *machine.notes))


def _hypothetical(named: NamedCards, index: int) -> Gpu:
    spec = named.spec
    return Gpu(
        name=spec.name,
        index=index,
        total_bytes=spec.total_bytes,
        free_bytes=spec.usable_bytes,
        used_bytes=0,
        reserved_bytes=spec.total_bytes - spec.usable_bytes,
        compute_capability=spec.compute_capability,
        unified_memory=spec.unified_memory,
        multiprocessors=spec.multiprocessors,
        memory_bandwidth_bytes_s=spec.memory_bandwidth_bytes_s,
        tensor_flops=spec.tensor_flops,
        power_limit_w=spec.power_limit_w,
        hypothetical=True,
        notes=(named.note,) if named.note else (),
    )


def _without_gpus(root: str, environ: Mapping[str, str]) -> Machine:
    cpu, cpu_notes = read_cpu(root)
    memory = system_memory(root)
    torch = find_torch()
    disk_path = _disk_path(environ)
    disk = os.statvfs(disk_path)
    return Machine(
        hostname=os.uname().nodename,
        cpu=cpu,
        ram_total_bytes=memory.total_bytes,
        ram_available_bytes=memory.available_bytes,
        disk_path=disk_path,
        disk_free_bytes=disk.f_bavail * disk.f_frsize,
        torch_version=torch.version if torch else None,
        torch_cuda_version=torch.cuda_version if torch else None,
        cuda_visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        notes=(*cpu_notes, *memory.notes),
    )


def _disk_path(environ: Mapping[str, str]) -> str:
    """The nearest folder that is there on the way to where runs are kept."""
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    path = os.path.join(os.path.abspath(state), "tunedeck")
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
