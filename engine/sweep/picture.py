"""A sweep as a picture: value by setting, which trial leads, what is live and what is planned. As values.

Light: read from the sweep's directory, no Optuna. Not here: drawing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.jsonvalues import whole_in
from engine.runs.store import Run
from engine.sweep.page import value_text
from engine.sweep.store import read_sweep
from engine.sweep.table import ENDED, TrialRow, ranked, read_rows

_WIDE_RATIO = 20.0
"""Between the largest and the smallest value, from which on powers of ten lie evenly."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A trial in one setting's chart. `place`: 0 to 1 along the setting. `sure`: ended with a value, not on its way."""

    trial: int
    place: float
    value: float
    sure: bool
    best: bool


@dataclass(frozen=True, slots=True)
class SettingChart:
    """The metric by one setting. `marks`: place and text of each value that was tried or is planned."""

    key: str
    marks: tuple[tuple[float, str], ...]
    dots: tuple[Dot, ...]
    best: str = ""
    """The leading trial's value."""


@dataclass(frozen=True, slots=True)
class SweepPicture:
    """All charts, and every trial: ranked ones first, then live and planned ones."""

    id: str
    metric: str
    planned: int
    charts: tuple[SettingChart, ...]
    rows: tuple[TrialRow, ...]
    undrawn: int
    """Trials whose settings are not chosen yet."""


def sweep_picture(sweep: Run) -> SweepPicture:
    """The sweep as it stands. Raises EngineError(PROFILE) when sweep.json is damaged."""
    told = read_sweep(sweep)
    metric, planned = str(told.get("metric") or "eval_loss"), whole_in(told, "trials") or 0
    rows = ranked(read_rows(sweep.path), metric)
    waiting = _cells(told, rows)
    known = [row for row in rows if _reached(row, metric) is not None]
    charts = tuple(_chart(key, [*rows, *waiting], known, metric) for key in _keys(told, rows))
    undrawn = max(0, planned - len(rows) - len(waiting))
    return SweepPicture(sweep.id, metric, planned, charts, (*rows, *waiting), undrawn)


def _keys(told: Mapping[str, Any], rows: Sequence[TrialRow]) -> list[str]:
    """The settings that are varied: those that trials have, else those that the sweep names."""
    named = [str(key) for key in told.get("keys") or () if isinstance(key, str)]
    return list(dict.fromkeys(key for row in rows for key in row.params)) or named


def _cells(told: Mapping[str, Any], rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Combinations of a grid that no trial has begun."""
    begun = [dict(row.params) for row in rows]
    cells = [dict(cell) for cell in told.get("cells") or () if isinstance(cell, Mapping)]
    return [TrialRow(-1, cell, "planned") for cell in cells if cell not in begun]


def _reached(row: TrialRow, metric: str) -> float | None:
    """The trial's value; of one that is on its way or was ended early its best loss, where that is the metric."""
    value = row.value if row.value is not None else row.best_eval_loss if metric == "eval_loss" else None
    return value if value is not None and math.isfinite(value) else None


def _chart(key: str, rows: Sequence[TrialRow], known: Sequence[TrialRow], metric: str) -> SettingChart:
    values = [row.params[key] for row in rows if key in row.params]
    places = _places(values)
    leads = next((row for row in known if row.rank == 1), None)
    dots = tuple(
        Dot(
            row.trial,
            places[value_text(row.params[key])],
            _reached(row, metric) or 0.0,
            row.state in ENDED,
            row is leads,
        )
        for row in known
        if key in row.params
    )
    marks = sorted((place, text) for text, place in places.items())
    best = value_text(leads.params[key]) if leads is not None and key in leads.params else ""
    return SettingChart(key, tuple(marks), dots, best)


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Where each value lies: numbers to scale, by powers of ten where they span many; other values evenly."""
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    texts = list(dict.fromkeys(map(value_text, values)))
    if len(numbers) < len(values) or not numbers or not all(map(math.isfinite, numbers)):
        return {text: at / max(1, len(texts) - 1) for at, text in enumerate(texts)}
    low, high = min(numbers), max(numbers)
    by_power = low > 0 and high / low >= _WIDE_RATIO

    def place(number: float) -> float:
        if high == low:
            return 0.5
        return math.log(number / low) / math.log(high / low) if by_power else (number - low) / (high - low)

    return {value_text(value): place(float(value)) for value in values}
