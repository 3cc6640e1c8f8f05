"""How much memory a run may take, on which device, and who holds the rest.

Budgets start from *free* memory, never from the card's size: what other processes hold is gone. Not here: what a run
needs (`engine.memory`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.errors import EngineError, ExitCode
from engine.hardware.cards import find_card
from engine.hardware.machine import Gpu, GpuProcess, Machine
from engine.memory.calibration import Calibration, calibration_of
from engine.memory.calibration_store import load_calibration
from engine.memory.device import context_bytes
from engine.memory.shape import MIB
from engine.recommend.plan import Requirements
from engine.speed.measured import MeasuredRates, load_rates
from engine.text import format_bytes

_MARGIN_BYTES = 256 * MIB
_MARGIN_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Target:
    """The device a plan is made for. `index` is the position in `Machine.gpus`; None = CPU."""

    device: str
    name: str
    index: int | None
    gpu: Gpu | None
    available_bytes: int
    reason: str
    """Why this device."""
    calibration: Calibration | None = None
    """What earlier runs measured on it."""
    measured: MeasuredRates | None = None
    """What it was measured to do."""
    ram_bytes: int = 0
    """Free main memory beside it; for a card that was only named, that of a machine like this one."""
    free_bytes: int = 0
    """Free on the device now, the margin included."""
    total_bytes: int = 0
    """All memory of the device."""


def available_bytes(machine: Machine, gpu: Gpu | None) -> int:
    """Free bytes of `gpu` (of RAM for None) less a one-sided margin of 256 MiB and 1 % of the total.

    The margin covers what other processes take between now and the run. A card that does not tell
    what is free counts as 0: `usable_gpus` does not offer it.
    """
    free, total = _free_and_total(machine, gpu)
    return max(0, free - _MARGIN_BYTES - int(total * _MARGIN_SHARE))


def _free_and_total(machine: Machine, gpu: Gpu | None) -> tuple[int, int]:
    if gpu is None:
        return machine.ram_available_bytes, machine.ram_total_bytes
    return gpu.free_bytes or 0, gpu.total_bytes or 0


def choose_target(machine: Machine, requirements: Requirements) -> Target:
    """The asked device, else the usable GPU with the most free memory, else the CPU, within the asked memory.

    Raises EngineError(RESOURCES) when a GPU was asked for that is not there.
    """
    target, most = _chosen(machine, requirements), requirements.memory_bytes
    if most is None or most >= target.available_bytes:
        return target
    return replace(target, available_bytes=most, reason=f"{target.reason}; {format_bytes(most)} of it, as asked for")


def _chosen(machine: Machine, requirements: Requirements) -> Target:
    if requirements.device == "cpu":
        return _cpu(machine, "asked for")
    targets = gpu_targets(machine)
    if requirements.gpu_uuid:
        return _asked_gpu(machine, targets, requirements.gpu_uuid)
    if targets:
        return max(targets, key=lambda target: target.available_bytes)
    if requirements.device == "cuda":
        raise EngineError(
            "no usable GPU on this machine",
            code=ExitCode.RESOURCES,
            hint="see 'engine probe' for the reason, or set launch.device = 'cpu'",
        )
    return _cpu(machine, "no usable GPU")


def gpu_targets(machine: Machine) -> tuple[Target, ...]:
    """Every GPU that can be trained on, as the driver orders them."""
    from engine.hardware.capabilities import usable_gpus

    usable = usable_gpus(machine)
    return tuple(_gpu(machine, index, gpu, len(usable)) for index, gpu in enumerate(machine.gpus) if gpu in usable)


def holders(processes: tuple[GpuProcess, ...]) -> str:
    """`python 4711 (anna) 20.1 GiB, …`: who holds a card's memory, largest first; empty when nobody."""
    ordered = sorted(processes, key=lambda process: -(process.used_bytes or 0))
    return ", ".join(_holder(process) for process in ordered[:4]) + (" …" if len(ordered) > 4 else "")


def _holder(process: GpuProcess) -> str:
    user = f" ({process.user})" if process.user else ""
    return f"{process.name or 'process'} {process.pid}{user} {format_bytes(process.used_bytes)}"


def _asked_gpu(machine: Machine, targets: tuple[Target, ...], wanted: str) -> Target:
    card = find_card(machine, wanted)
    return replace(next(target for target in targets if target.gpu == card), reason="asked for")


def _gpu(machine: Machine, index: int, gpu: Gpu, count: int) -> Target:
    reason = "the GPU with the most free memory" if count > 1 else "the only usable GPU"
    if gpu.hypothetical:
        reason = "named, not found here" + (f"; one of {count} is used" if count > 1 else "")
    rates = load_rates(gpu, machine)
    known = _with_context(load_calibration(gpu, machine), rates, gpu), rates
    room = machine.ram_available_bytes, *_free_and_total(machine, gpu)
    return Target("cuda", gpu.name, index, gpu, available_bytes(machine, gpu), reason, *known, *room)


def _with_context(found: Calibration | None, rates: MeasuredRates | None, gpu: Gpu) -> Calibration | None:
    """The context that measuring the card's speed took, where no run has told yet; a run loads more kernels."""
    if rates is None or rates.context_bytes is None or (found is not None and found.context_bytes is not None):
        return found
    known = max(rates.context_bytes, context_bytes(gpu, "cuda"))
    return replace(found or calibration_of(()), context_bytes=known)


def _cpu(machine: Machine, reason: str) -> Target:
    known = load_calibration(None, machine), load_rates(None, machine)
    room = machine.ram_available_bytes, *_free_and_total(machine, None)
    return Target("cpu", machine.cpu.name, None, None, available_bytes(machine, None), reason, *known, *room)
