"""Sweeps as values: their folders, and the trials among the runs. Read by `runlist.py`, drawn by `runlines.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine import api
from engine.api import Run
from engine.errors import EngineError
from tui.snapshot import value
from tui.text import safe


@dataclass(frozen=True, slots=True)
class Trial:
    """A run's place in a sweep: which, and with which settings, as (short name, value)."""

    sweep: str
    number: int
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a trial stands in its sweep: rank (0 = none yet), value of the metric, state, why it ended early."""

    rank: int = 0
    value: float | None = None
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """What a sweep's own folder says; `planned` trials in all."""

    sweep: Run
    state: str
    metric: str = "eval_loss"
    planned: int = 0
    standings: Mapping[int, Standing] = field(default_factory=dict)
    last_time: float = 0.0


def make_trial(found: object) -> Trial | None:
    """A run's place in a sweep, from run.json; None for a run that stands alone."""
    if not isinstance(found, Mapping) or not found.get("id"):
        return None
    number, params = found.get("trial"), found.get("params")
    pairs = params.items() if isinstance(params, Mapping) else ()
    return Trial(
        safe(found["id"], 80),
        number if isinstance(number, int) else 0,
        tuple((safe(str(key).rpartition(".")[2], 40), _short(setting)) for key, setting in pairs),
    )


def _short(setting: Any) -> str:
    return safe(f"{setting:.4g}" if isinstance(setting, float) else setting, 40)


def read_sweep(sweep: Run) -> SweepFacts:
    """A sweep as it stands; of a damaged one only its id. Raises OSError when it went away."""
    told: Mapping[str, Any] = {}
    try:
        told = api.read_sweep(sweep)
    except EngineError:
        return SweepFacts(sweep, "damaged", last_time=sweep.path.stat().st_mtime)
    metric = safe(told.get("metric") or "eval_loss", 30)
    try:
        rows = api.ranked(api.read_trials(sweep), metric)
    except (KeyError, TypeError, ValueError):
        rows = []
    return SweepFacts(
        sweep,
        safe(api.run_state(sweep), 20),
        metric,
        int(value(told, "trials") or 0),
        {row["trial"]: _standing(row) for row in rows if isinstance(row.get("trial"), int)},
        _last_time(sweep),
    )


def _standing(row: Mapping[str, Any]) -> Standing:
    return Standing(
        int(value(row, "rank") or 0),
        value(row, "value"),
        safe(row.get("state") or "", 20),
        safe(row.get("reason") or "", 300),
    )


def _last_time(sweep: Run) -> float:
    path = sweep.path / "trials.json"
    return (path if path.exists() else sweep.path).stat().st_mtime
