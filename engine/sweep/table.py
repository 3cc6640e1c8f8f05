"""Trials as rows: what trials.json, `engine sweeps show` and the deck have of them, and their ranking.

Light: no Optuna here. The sweep's worker writes; whoever shows a sweep reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.files import write_json_atomic
from engine.jsonvalues import Table, Unreadable, load_any_object, number_in, table_in, tables_in, text_in, whole_in
from engine.runs import store
from engine.runs.record import summary_or_empty

if TYPE_CHECKING:
    from engine.sweep.study import Trial
    from engine.sweep.trial import LiveTrial

ENDED = ("completed", "pruned", "failed")
_WEIGHTS = ("checkpoints", "adapter", "model", "adapter-initial")
_TOOK = ("step", "steps_total", "seconds", "best_eval_loss", "best_step", "peak_bytes")
TRIALS_FILE = "trials.json"


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial as it stands: settings, state, value, its run and how far that came; None = not known.

    `owner` is the sweep whose worker ran it: several may share a study. `rank` is that among ranked rows.
    """

    trial: int
    params: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    value: float | None = None
    step: int | None = None
    steps_total: int | None = None
    seconds: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    peak_bytes: int | None = None
    run: str | None = None
    owner: str | None = None
    reason: str = ""
    rank: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as `--json` and events have it."""
        return asdict(self)


def row_of(trial: Trial, live: LiveTrial | None) -> TrialRow:
    """The row of a trial of the study, and of its run where that is at work."""
    marks = trial.marks
    losses = [loss for loss in map(abs, trial.reported.values()) if loss < float("inf")]
    far = took(live) if live is not None else marks.get("took", {})
    known = {name: far.get(name) for name in _TOOK if name != "best_eval_loss"}
    return TrialRow(
        trial=trial.number,
        params=trial.params,
        state=trial.state,
        value=trial.value,
        **known,
        best_eval_loss=far.get("best_eval_loss") or (min(losses) if losses else None),
        run=live.run.id if live is not None else marks.get("run"),
        owner=trial.owner,
        reason=str(marks.get("why", "")),
    )


def took(live: LiveTrial) -> dict[str, Any]:
    """How far a run has come and what it took: noted in the study when it ends, for whoever shares that."""
    summary = summary_or_empty(live.run.path).to_json()
    now = {"step": live.step, "steps_total": live.steps_total, "peak_bytes": live.peak_bytes}
    return now | {name: summary[name] for name in _TOOK if summary.get(name) is not None}


def write_rows(directory: Path, rows: Sequence[TrialRow]) -> None:
    """Put trials.json in place."""
    trials = [{key: value for key, value in row.to_json().items() if key != "rank"} for row in rows]
    write_json_atomic(directory / TRIALS_FILE, {"v": 1, "trials": trials})


def read_rows(directory: Path) -> list[TrialRow]:
    """Rows of trials.json in the order of their numbers; none before the first trial, or where it is damaged."""
    found = load_any_object(directory / TRIALS_FILE, name=TRIALS_FILE, hint="the sweep's worker writes it anew")
    rows = () if isinstance(found, Unreadable) else tables_in(found, "trials")
    return [read for row in rows if (read := _read(row)) is not None]


def _read(row: Table) -> TrialRow | None:
    number = whole_in(row, "trial")
    if number is None:
        return None
    return TrialRow(
        trial=number,
        params=table_in(row, "params"),
        state=text_in(row, "state"),
        value=number_in(row, "value"),
        step=whole_in(row, "step"),
        steps_total=whole_in(row, "steps_total"),
        seconds=number_in(row, "seconds"),
        best_eval_loss=number_in(row, "best_eval_loss"),
        best_step=whole_in(row, "best_step"),
        peak_bytes=whole_in(row, "peak_bytes"),
        run=text_in(row, "run") or None,
        owner=text_in(row, "owner") or None,
        reason=text_in(row, "reason"),
    )


def ranked(rows: Sequence[TrialRow], metric: str) -> list[TrialRow]:
    """Rows with their `rank`: by value, then those that were ended early by how well they stood, then the rest."""
    sign = 1.0 if metric == "eval_loss" else -1.0
    order = {"completed": 0, "pruned": 1, "running": 2, "waiting": 3, "failed": 4}

    def key(row: TrialRow) -> tuple[int, float, float, int]:
        return (
            order.get(row.state, 5),
            sign * row.value if row.value is not None else 0.0,
            row.best_eval_loss if row.best_eval_loss is not None else float("inf"),
            row.trial,
        )

    in_order = sorted(rows, key=key)
    return [replace(row, rank=place if row.value is not None else None) for place, row in enumerate(in_order, 1)]


def drop_weights(run_id: str | None) -> None:
    """Delete weights and checkpoints of a run that has ended; events, settings and reports stay."""
    if not run_id:
        return
    path = store.runs_root() / run_id
    for name in _WEIGHTS:
        shutil.rmtree(path / name, ignore_errors=True)
