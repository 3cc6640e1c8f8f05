"""The steps of a self-test on one device, in order of worth. Torch-free: `engine selftest --plan` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.selftest.cases import memory_items, setting_items, speed_items
from engine.selftest.checks import Item, Place, Step, begins
from engine.selftest.kernel_table import kernel_items

DEFAULT_MINUTES = {"cpu": 3.0, "cuda": 10.0}
_DEVICE = "engine.selftest.device."
_COMBINATIONS = (("nf4", "lora"), ("none", "lora"), ("none", "full"), ("int8", "lora"))
_PLAIN_FIRST = (("none", "lora"), ("none", "full"), ("nf4", "lora"), ("int8", "lora"))
"""Packed weights are slow on processors, and little used."""
_TRAINING_S = {"cpu": 10.0, "cuda": 22.0}


@dataclass(frozen=True, slots=True)
class SelftestPlan:
    """What runs where, within how long."""

    place: Place
    minutes: float
    steps: tuple[Step, ...]

    @property
    def total_s(self) -> float:
        """No item begins after as many seconds."""
        return self.minutes * 60


def plan_selftest(place: Place, minutes: float | None) -> SelftestPlan:
    """All steps for `place`; `minutes` None = the device's default."""
    steps = (
        Step("machine", "Machine: does torch see what the driver tells", _machine_items(place), 0.1),
        Step("kernels", "Fast paths against plain computation", kernel_items(place), 0.35),
        Step("training", "Each precision and method, through the worker", _training_items(place), 0.6, alone=True),
        Step("memory", "Predicted against measured memory", memory_items(place), 0.8, alone=True),
        Step("speed", "Speed", speed_items(place), 0.9, alone=True, least=2),
        Step("settings", "The recommended setting against its neighbors", setting_items(place), 1.0, alone=True),
    )
    return SelftestPlan(place, minutes or DEFAULT_MINUTES[place.device], steps)


def expected(plan: SelftestPlan) -> list[tuple[Step, int, float]]:
    """Each step with how many of its items should begin, and their seconds, if all goes as expected."""
    elapsed, found = 0.0, []
    for step in plan.steps:
        began, count = elapsed, 0
        while count < len(step.items) and begins(step, count, elapsed, plan.total_s):
            elapsed += step.items[count].expected_s
            count += 1
        found.append((step, count, elapsed - began))
    return found


def to_json(plan: SelftestPlan) -> dict[str, Any]:
    """The plan as JSON values."""
    return {
        "device": plan.place.device,
        "name": plan.place.target.name,
        "dtypes": list(plan.place.dtypes),
        "minutes": plan.minutes,
        "steps": [
            {
                "name": step.name,
                "title": step.title,
                "expected_s": round(seconds, 1),
                "until_s": round(step.until * plan.total_s, 1),
                "checks": [
                    {
                        "name": item.name,
                        "about": item.about,
                        "expected_s": round(item.expected_s, 1),
                        "limit_s": round(item.limit_s, 1),
                        "begins": number < count,
                    }
                    for number, item in enumerate(step.items)
                ],
            }
            for step, count, seconds in expected(plan)
        ],
    }


def _machine_items(place: Place) -> tuple[Item, ...]:
    about = "name, capability and memory as the driver tells them, a product"
    gpu = place.gpu
    told = {"name": gpu.name, "capability": list(place.capability), "total_bytes": gpu.total_bytes} if gpu else {}
    run = _DEVICE + "seen:torch_view"
    return (Item("torch sees the device", about, run, place.start_s / 2, {"device": place.device, **told}),)


def _training_items(place: Place) -> tuple[Item, ...]:
    """The recommended dtype's combinations first, then the others' in turns."""
    pairs = _PLAIN_FIRST if place.device == "cpu" else _COMBINATIONS
    columns = [[(dtype, *pair) for pair in pairs] for dtype in place.dtypes]
    ordered = columns[0][:2]
    ordered += [column[turn] for turn in range(4) for column in columns if column[turn] not in ordered]
    return tuple(
        Item(
            f"{dtype} {'plain' if stored == 'none' else stored} {method}",
            "a short run of the built-in model: its loss goes down",
            _DEVICE + "training:train",
            _TRAINING_S[place.device],
            {
                "device": place.device,
                "gpu": place.gpu.uuid if place.gpu else None,
                "dtype": dtype,
                "quantization": stored,
                "method": method,
            },
            limit_s=180.0,
        )
        for dtype, stored, method in ordered
    )
