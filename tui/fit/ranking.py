"""Looking at the machine and ranking models for it: the slow part of the fit screen, run in a thread.

Not here: when it is done (`ranker.py`), showing any of it (`view.py`, `screen.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.api import fit
from engine.api.fit import Gpu, Machine, Plan, Requirements
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.api.fit import ModelSpec

AUTO, CPU = "auto", "cpu"
_RERANK_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Ranking:
    """Plans for one machine, the built-in demo first."""

    machine: Machine
    plans: tuple[Plan, ...]
    what_if: str = ""


def rank(machine: Machine, requirements: Requirements, what_if: str = "") -> Ranking:
    """Plans of the demo and of the catalogue. Raises EngineError for a device that is not there."""
    plans = [plan for plan in fit.rank_models(machine, requirements) if plan.model.name != "demo"]
    try:
        demo = [fit.plan_model(fit.resolve_model("demo"), machine, requirements)]
    except EngineError:
        demo = []  # an installation without the demo's files still ranks
    return Ranking(machine, (*demo, *plans), what_if)


def explain(plan: Plan, machine: Machine, requirements: Requirements) -> Plan:
    """The same plan with its alternatives."""
    return fit.plan_model(plan.model, machine, requirements)


def free_changed(before: Machine, now: Machine) -> bool:
    """Whether what is free changed enough to rank again."""
    if [gpu.uuid for gpu in before.gpus] != [gpu.uuid for gpu in now.gpus]:
        return True
    if now.gpus:
        pairs = zip(before.gpus, now.gpus, strict=True)
        return any(abs((a.free_bytes or 0) - (b.free_bytes or 0)) > _RERANK_BYTES for a, b in pairs)
    return abs(before.ram_available_bytes - now.ram_available_bytes) > 2 * _RERANK_BYTES


def imagine(text: str) -> tuple[Machine, str]:
    """`RTX 4090`, `2 x H100`: the machine with those cards and its name. Raises EngineError."""
    machine = fit.hypothetical_machine(text)
    return machine, f"{len(machine.gpus)} × {machine.gpus[0].name}"


@dataclass(frozen=True, slots=True)
class Device:
    """A device that plans may be asked for."""

    key: str
    """`auto`, `cpu`, or the card's UUID."""
    name: str
    gpu: Gpu | None = None

    def asked(self, requirements: Requirements) -> Requirements:
        """The same requirements on this device."""
        device = "cuda" if self.gpu else None if self.key == AUTO else CPU
        return replace(requirements, gpu_uuid=self.gpu.uuid if self.gpu else None, device=device)


def devices(machine: Machine) -> tuple[Device, ...]:
    """The best, each card and slice that can be used, the processor; the best alone where there is no GPU."""
    cards = [gpu for gpu in fit.listed_gpus(machine) if gpu.uuid and not fit.why_not(gpu)]
    found = [Device(AUTO, AUTO), *(Device(gpu.uuid or "", fit.card_name(gpu), gpu) for gpu in cards)]
    return (*found, Device(CPU, "CPU")) if machine.gpus else tuple(found[:1])


def chosen_key(requirements: Requirements) -> str:
    """The key of the device that is asked for."""
    return requirements.gpu_uuid or requirements.device or AUTO


def device_trouble(machine: Machine, requirements: Requirements, title: str) -> str:
    """Why the card that is asked for, `title` when it was chosen, cannot be planned for; empty where it can."""
    uuid = requirements.gpu_uuid
    if uuid is None:
        return ""
    found = next((gpu for gpu in fit.listed_gpus(machine) if gpu.uuid == uuid), None)
    if found is None:
        return f"{title} is not here any more: d chooses another device"
    reason = fit.why_not(found)
    return f"{title} cannot be used: {reason}. d chooses another device" if reason else ""


def plans_by_device(machine: Machine, requirements: Requirements, model: ModelSpec | None) -> dict[str, Plan]:
    """What `model` comes to on each device, by key; empty without a model."""
    if model is None:
        return {}
    return {one.key: fit.rank_models(machine, one.asked(requirements), [model])[0] for one in devices(machine)}
