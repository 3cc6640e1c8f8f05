"""What a self-test is made of, as data: places, checks to run, steps of them, and what was found. Torch-free.

`plan.py` makes steps for a place, `children.py` runs their items in processes of their own, `page.py` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import EngineError
from engine.hardware.capabilities import best_dtype, cpu_bf16_native
from engine.hardware.machine import Gpu, Machine
from engine.recommend.budget import Target, choose_target
from engine.recommend.plan import Requirements

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
_LATEST = 1.25
"""Of the whole time: when the first item of a step may end at the latest, if it takes as long as expected."""
SPENT = 75
"""Exit code of a child process that has told of its last item and cannot go on."""


@dataclass(frozen=True, slots=True)
class Place:
    """The device under test."""

    machine: Machine
    target: Target

    @property
    def device(self) -> str:
        """`cuda` or `cpu`."""
        return self.target.device

    @property
    def gpu(self) -> Gpu | None:
        """The card; None on a processor."""
        return self.target.gpu

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability; (0, 0) on a processor and for a card that does not tell."""
        return (self.gpu.compute_capability if self.gpu else None) or (0, 0)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Dtypes that training uses here, the recommended one first."""
        if self.gpu is None:
            return ("bf16", "fp32") if cpu_bf16_native(self.machine) else ("fp32",)
        best = best_dtype(self.machine, self.gpu)[0]
        return {"bf16": ("bf16", "fp16", "fp32"), "fp16": ("fp16", "fp32")}.get(best, ("fp32",))

    @property
    def start_s(self) -> float:
        """Seconds until a fresh process has its libraries and the device."""
        return 12.0 if self.device == "cuda" else 7.0


def place_of(machine: Machine, device: str | None) -> Place:
    """The device that runs go to, or the one asked for. Raises EngineError(RESOURCES) where it is not there."""
    try:
        return Place(machine, choose_target(machine, Requirements(device=device)))
    except EngineError as error:
        hint = "see 'engine probe' for the reason, or use --device cpu"
        raise EngineError(error.message, code=error.code, hint=hint) from error


@dataclass(frozen=True, slots=True)
class Item:
    """One check. `run` is the `module:function` that a child process calls with `params` (JSON values)."""

    name: str
    about: str
    """What it compares, in words."""
    run: str
    expected_s: float
    params: Mapping[str, Any] = field(default_factory=dict)
    limit_s: float = 60.0
    """It is ended after as long, and has failed."""
    group: str = ""
    """What it shares with other checks of its step, for the plan; `about` where it is empty."""


@dataclass(frozen=True, slots=True)
class Step:
    """Items in order of worth. An item begins only while it fits below `until`, a share of the whole time."""

    name: str
    title: str
    items: tuple[Item, ...]
    until: float
    alone: bool = False
    """Whether each item has a process to itself."""
    least: int = 1
    """So many items begin even below `until`, as long as any time is left."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one check ended. `figures` holds numbers by name, with units in the names."""

    name: str
    status: str
    text: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Finding:
        """What a child process wrote."""
        return cls(
            str(found["name"]),
            str(found["status"]),
            str(found.get("text", "")),
            dict(found.get("figures", {})),
            float(found.get("seconds", 0.0)),
        )


def begins(step: Step, number: int, elapsed_s: float, total_s: float, pace: float = 1.0) -> bool:
    """Whether the item with this number still begins after `elapsed_s` of `total_s` seconds.

    `pace`: how many times as long as expected the items took so far.
    """
    expected_s = step.items[number].expected_s
    if number < step.least:
        return elapsed_s < total_s and elapsed_s + expected_s <= _LATEST * total_s
    return elapsed_s + pace * expected_s <= step.until * total_s
