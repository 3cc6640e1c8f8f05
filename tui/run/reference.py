"""A finished run laid under the live one: which runs can be, and how the live one stands to it. No widgets here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.api import runs as runs_api
from engine.api import sweeps as sweeps_api
from engine.api.runs import Run, RunRecord
from engine.errors import EngineError
from engine.jsonvalues import Unreadable
from tui.charts.decimate import Point
from tui.reading.snapshot import Curves, RunSnapshot, short_name
from tui.reading.tail import RunReader
from tui.text import middle, safe

MOST = 60
"""Newest runs that are looked at, besides the best trial of the sweep."""
_LEVEL = 0.005
"""A smaller difference is none."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The curves of a run that is over."""

    run_id: str
    name: str
    curves: Curves
    last_step: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that may be laid under another; `problem`: why its loss means something else, empty when it does not."""

    run: Run
    name: str
    problem: str = ""
    best: bool = False
    """Whether it is the best trial of the sweep that the other run belongs to."""


def find_candidates(run: Run) -> list[Candidate]:
    """Runs that are over: the best trial of the same sweep, then what can be compared, then the rest; newest first."""
    mine = runs_api.load_record(run.path)
    if isinstance(mine, Unreadable):
        return []
    best = _best_trial(mine)
    others = [one for place, one in enumerate(runs_api.list_runs()) if place < MOST or one.id == best]
    found = [_candidate(other, mine, best) for other in others if other.id != run.id]
    return sorted((one for one in found if one is not None), key=lambda one: (bool(one.problem), not one.best))


def _candidate(other: Run, mine: RunRecord, best: str) -> Candidate | None:
    theirs = runs_api.load_record(other.path)
    if isinstance(theirs, Unreadable) or not other.events_path.exists():
        return None
    if runs_api.run_state(other) in runs_api.LIVE_STATES:
        return None
    name = safe(short_name(other.id), 60)
    return Candidate(other, name, mismatch(mine, theirs), other.id == best)


def _best_trial(mine: RunRecord) -> str:
    """The id of the run that stands best in the sweep of this one; empty outside of a sweep."""
    if mine.trial is None:
        return ""
    sweep = next((one for one in sweeps_api.list_sweeps() if one.id == mine.trial.sweep), None)
    if sweep is None:
        return ""
    try:
        metric = str(sweeps_api.read_sweep(sweep).get("metric") or "eval_loss")
    except EngineError:
        return ""
    ranked = sweeps_api.ranked(sweeps_api.read_rows(sweep.path), metric)
    return next((row.run for row in ranked if row.run and row.state == "completed" and row.value is not None), "")


def mismatch(mine: RunRecord, theirs: RunRecord) -> str:
    """Why two losses do not mean the same, in a word; empty when they do."""
    ours, other = _objective(mine), _objective(theirs)
    if ours != other:
        return f"another task: {safe(other, 20)}"
    if _data(mine) != _data(theirs):
        return "another data set"
    return ""


def _objective(record: RunRecord) -> str:
    return record.text("train.objective") or "sft"


def _data(record: RunRecord) -> tuple[tuple[str, ...], ...]:
    """The sets that are learned from, each by where it lies and which part of it is taken."""
    found = record.setting("data.datasets")
    sets = [one for one in found if isinstance(one, Mapping)] if isinstance(found, Sequence) else []
    return tuple(sorted(_one_set(one, record.base_dir) for one in sets))


def _one_set(found: Mapping[str, Any], base: Path | None) -> tuple[str, ...]:
    path = str(found.get("path") or "")
    place = str(base / path) if base is not None and ":" not in path else path
    return place, str(found.get("split") or ""), str(found.get("subset") or "")


def read_reference(run: Run) -> Reference:
    """All curves of a run."""
    reader = RunReader(run)
    while reader.read():
        pass
    shot = reader.snapshot(reader.state())
    return Reference(run.id, safe(short_name(run.id), 60), shot.curves, shot.step)


# How the live one stands to it


def difference(snapshot: RunSnapshot, reference: Reference, cursor: float | None, name_cells: int = 60) -> str:
    """`12 % below demo-c512 at step 120`: smoothed losses at the same step, under the crosshair or at the newest.

    Behind the end of the reference its last value counts.
    """
    step, name = float(snapshot.step) if cursor is None else cursor, middle(reference.name, name_cells)
    mine, theirs = _between(snapshot.curves.smooth, step), _between(reference.curves.smooth, step)
    if mine is None or theirs is None or not theirs:
        return f"{name} has no loss to compare"
    ended = step > reference.last_step
    share = (mine - theirs) / abs(theirs)
    where = f"{name} at {f'its end, step {reference.last_step:,}' if ended else f'step {step:,.0f}'}"
    if abs(share) < _LEVEL:
        return f"level with {where}"
    return f"{_percent(abs(share))} {'below' if share < 0 else 'above'} {where}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share < 10 else f"{share:,.0f} times"


def _between(points: Sequence[Point], x: float) -> float | None:
    """The value at `x` on the line through points; at the ends that of the end."""
    if not points:
        return None
    after = bisect_right(points, x, key=lambda point: point.x)
    if after == 0 or after == len(points):
        return points[min(after, len(points) - 1)].mean
    first, second = points[after - 1], points[after]
    return first.mean + (second.mean - first.mean) * (x - first.x) / (second.x - first.x)
