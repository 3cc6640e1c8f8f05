"""A profile with one trial's settings in it: what it becomes on this machine, or why it cannot run.

`grid_params` lists a grid, `resolve_combination` says what one set of settings becomes. Not here: searching
(`study.py`), starting (`trial.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Machine
from engine.profile.load import LoadedProfile, load_text
from engine.profile.save import edited_text
from engine.profile.tables.sweep import Sweep
from engine.profile.values import inline_toml
from engine.resolve.resolve import Resolved, resolve_profile
from engine.resolve.search_space import Choices, Dimension, Range, dimensions
from engine.sweep.document import Params

MOST_COMBINATIONS = 4096
_DECIDES = (
    "quantization.method",
    "model.dtype",
    "model.max_length",
    "tuning.method",
    "train.total_batch_size",
    "train.optim",
    "train.learning_rate",
)
"""Settings that change what is learnt and may be chosen for the machine: trials should not differ in them unasked."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One set of settings on a machine; `resolved` is None where it cannot run, and `why` then says why."""

    params: Params
    resolved: Resolved | None
    why: str = ""
    code: ExitCode = ExitCode.OK
    """Exit code that the cause stands for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A profile whose `[sweep]` is sound, and what it asks for."""

    text: str
    path: Path
    sweep: Sweep
    dimensions: tuple[Dimension, ...] = field(default=())

    @property
    def method(self) -> str:
        """`grid`, `random` or `tpe`."""
        ranges = any(isinstance(one, Range) for one in self.dimensions)
        return self.sweep.method or ("tpe" if ranges else "grid")


def plan_of(loaded: LoadedProfile) -> Plan:
    """What a loaded profile asks to search. Raises EngineError(PROFILE) when it varies nothing or is not sound."""
    if loaded.profile is None or not loaded.profile.sweep.space:
        raise EngineError(
            "the profile varies nothing",
            code=ExitCode.PROFILE,
            where=str(loaded.path),
            hint="add [sweep.space] with lora.r = [8, 16, 32], or --vary lora.r=8,16,32",
        )
    sweep = loaded.profile.sweep
    plan = Plan(loaded.text, loaded.path, sweep, dimensions(sweep.space))
    count = count_combinations(plan.dimensions)
    if plan.method == "grid" and count > MOST_COMBINATIONS:
        raise EngineError(
            f"the grid has {count:,} combinations, at most {MOST_COMBINATIONS:,} are searched one by one",
            code=ExitCode.PROFILE,
            where="sweep.space",
            hint="use sweep.method = 'tpe' with sweep.trials, or list fewer values",
        )
    return plan


def count_combinations(space: Iterable[Dimension]) -> int:
    """How many combinations the listed values have; ranges count as one."""
    count = 1
    for dimension in space:
        count *= len(dimension.rows) if isinstance(dimension, Choices) else 1
    return count


def grid_params(space: Sequence[Dimension]) -> Iterator[Params]:
    """Every combination of listed values, the last dimension fastest; ranges are left out."""
    listed = [dimension for dimension in space if isinstance(dimension, Choices)]
    for rows in itertools.product(*(dimension.rows for dimension in listed)):
        params: Params = {}
        for dimension, row in zip(listed, rows, strict=True):
            params |= dict(zip(dimension.keys, row, strict=True))
        yield params


def resolve_combination(
    plan: Plan, params: Mapping[str, Any], machine: Machine, fixed: Mapping[str, Any] | None = None
) -> Combination:
    """The profile with `params` and `fixed` on this machine; its problems, or that it does not fit, are its `why`."""
    overrides = [f"{key}={inline_toml(value)}" for key, value in {**params, **(fixed or {})}.items()]
    try:
        resolved = resolve_profile(load_text(plan.text, plan.path, overrides), machine)
    except EngineError as error:
        first = error.problems[0] if error.problems else error
        return Combination(
            dict(params), None, f"{first.message}; {first.hint}" if first.hint else first.message, error.code
        )
    return Combination(dict(params), resolved)


def trial_text(plan: Plan, params: Mapping[str, Any]) -> str:
    """The profile of one trial as a person would write it: its settings in place, nothing to vary, comments kept."""
    return edited_text(plan.text, {**params, "sweep": None}, plan.path)


def differing(examined: Iterable[Combination], space: Iterable[Dimension]) -> dict[str, list[str]]:
    """Settings chosen for the machine that differ between trials though nobody varies them, with their values."""
    varied = {key for dimension in space for key in dimension.keys}
    differing_values: dict[str, list[str]] = {}
    for key in _DECIDES:
        values = {
            str(combination.resolved.provenance[key]["value"])
            for combination in examined
            if combination.resolved is not None and key in combination.resolved.provenance
        }
        if key not in varied and len(values) > 1:
            differing_values[key] = sorted(values)
    return differing_values
