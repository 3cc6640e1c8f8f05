"""Looking at the machine and ranking models for it: the slow part of the fit screen, run in a thread.

Not here: showing any of it (`fitview.py`, `screens/fit.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine import api
from engine.api import Machine, Plan, Requirements
from engine.errors import EngineError


@dataclass(frozen=True, slots=True)
class Ranking:
    """Plans for one machine, the built-in demo first."""

    machine: Machine
    plans: tuple[Plan, ...]
    what_if: str = ""


def rank(machine: Machine, requirements: Requirements, what_if: str = "") -> Ranking:
    """Plans of the demo and of the catalogue. Raises EngineError for a device that is not there."""
    plans = [plan for plan in api.rank_models(machine, requirements) if plan.model.name != "demo"]
    try:
        demo = [api.plan_model(api.resolve_model("demo"), machine, requirements)]
    except EngineError:
        demo = []  # an installation without the demo's files still ranks
    return Ranking(machine, (*demo, *plans), what_if)


def explain(plan: Plan, machine: Machine, requirements: Requirements) -> Plan:
    """The same plan with its alternatives."""
    return api.plan_model(plan.model, machine, requirements)


def imagine(text: str) -> tuple[Machine, str]:
    """`RTX 4090`, `2 x H100`: the machine with those cards and its name. Raises EngineError."""
    match = re.fullmatch(r"(?:(\d{1,3})\s*[x×*]\s+)?(.+)", text.strip(), re.IGNORECASE)
    count, name = (int(match[1] or 1), match[2]) if match else (1, text)
    machine = api.hypothetical_machine(name, count)
    shown = machine.gpus[0].name if machine.gpus else name
    return machine, f"{count} × {shown}"


def devices(machine: Machine) -> tuple[tuple[str, Requirements], ...]:
    """Devices that plans may be asked for: the best, each GPU, the processor."""
    found = [("auto", Requirements())]
    if len(machine.gpus) > 1:
        found += [
            (f"GPU {gpu.index}", Requirements(gpu_uuid=gpu.uuid, device="cuda")) for gpu in machine.gpus if gpu.uuid
        ]
    if machine.gpus:
        found.append(("CPU", Requirements(device="cpu")))
    return tuple(found)
