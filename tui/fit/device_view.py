"""The list of devices in lines: what each has free, who holds it, and what a model comes to there. Pure functions.

Drawn by `screens/devices.py`. Not here: which devices there are (`ranking.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from engine.api import fit as fit_api
from engine.api.fit import Machine, Plan
from tui.fit.machine import holders_text
from tui.fit.ranking import AUTO, Device
from tui.fit.view import verdict_text
from tui.text import VERDICT_STYLES, clip, fit, fit_right, gib, line, plan_device, safe

_FREE_CELLS, _SHORT_FREE_CELLS = 22, 14
_ROOMY, _TIGHT = 46, 37
"""Columns beside the name: from which all is told, below which a verdict comes without its figure."""


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """A device with what the model under the cursor comes to on it, where there is one."""

    device: Device
    machine: Machine
    plan: Plan | None
    chosen: bool
    """Whether plans are made for it now."""
    name_cells: int
    """Columns of the longest name."""


def device_lines(
    found: tuple[Device, ...], machine: Machine, plans: dict[str, Plan], chosen: str
) -> tuple[DeviceLine, ...]:
    """A line for each device."""
    cells = max(len(one.name) for one in found)
    return tuple(DeviceLine(one, machine, plans.get(one.key), one.key == chosen, cells) for one in found)


def device_row(shown: DeviceLine, width: int, current: bool) -> Content:
    """Name, what it is, free memory, verdict; a dot marks the one that is chosen now."""
    plan, device = shown.plan, shown.device
    mark = ("> " if current else "  ") + ("· " if shown.chosen else "  ")
    room = width - len(mark) - shown.name_cells - 2
    is_tight = room < _ROOMY
    free = _free(shown, short=is_tight)
    free = fit_right(free, _SHORT_FREE_CELLS if is_tight else _FREE_CELLS) if free else ""
    verdict = "" if plan is None else f"  {plan.verdict}".ljust(8) if room < _TIGHT else f"  {verdict_text(plan)}"
    cells = max(0, room - len(free) - len(verdict))
    text = line(
        (mark, "bold"),
        (fit(device.name, shown.name_cells), "bold"),
        "  ",
        (fit(clip(_model(shown), cells - 1), cells), "dim"),
        free,
        (verdict, VERDICT_STYLES[plan.verdict] if plan else ""),
    ).truncate(width, ellipsis=True)
    return Content(text.plain) if current else text


def _model(shown: DeviceLine) -> str:
    device, machine = shown.device, shown.machine
    if device.gpu is not None:
        return safe(fit_api.model_name(device.gpu.name)).removeprefix("GeForce ")
    if device.key != AUTO:
        return safe(machine.cpu.name)
    return f"→ {plan_device(shown.plan)}" if shown.plan else "most free memory"


def _free(shown: DeviceLine, *, short: bool) -> str:
    device, machine = shown.device, shown.machine
    if device.key == AUTO:
        return ""
    free, total = machine.ram_available_bytes, machine.ram_total_bytes
    if device.gpu is not None:
        free, total = device.gpu.free_bytes or 0, device.gpu.total_bytes or free
    return f"{gib(free)} GiB free" if short else f"{gib(free)} of {gib(total)} GiB free"


def device_detail(shown: DeviceLine, width: int) -> Content:
    """Who holds the device, and its UUID."""
    device = shown.device
    if device.key == AUTO:
        words = ("the GPU with the most free memory, else the processor;", "the profile leaves it open")
    elif device.gpu is None:
        words = (f"{shown.machine.cpu.physical_cores} cores;", "for small models")
    else:
        words = (f"{holders_text(device.gpu)};", safe(device.gpu.uuid or ""))
    first, second = words
    lines = [f"{first} {second}"] if len(first) + len(second) < width else [first.removesuffix(";"), second]
    return Content("\n").join([Content.styled(clip(text, width), "dim") for text in [*lines, ""][:2]])


def left_out(machine: Machine) -> list[str]:
    """Cards that cannot be chosen, each with its reason."""
    cards = [(gpu, fit_api.why_not(gpu)) for gpu in fit_api.listed_gpus(machine)]
    return [safe(f"{fit_api.card_title(gpu)} cannot be used: {reason}", 400) for gpu, reason in cards if reason]
