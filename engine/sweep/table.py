"""Trials as rows: what trials.json, `engine sweeps show` and the deck have of them, and their ranking.

Light: no Optuna here. The sweep's worker writes; whoever shows a sweep reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.files import write_json_atomic
from engine.runs import store
from engine.runs.record import summary_or_empty

if TYPE_CHECKING:
    from engine.sweep.study import Trial
    from engine.sweep.trial import LiveTrial

Row = dict[str, Any]
ENDED = ("completed", "pruned", "failed")
_WEIGHTS = ("checkpoints", "adapter", "model", "adapter-initial")


_TOOK = ("step", "steps_total", "seconds", "best_eval_loss", "best_step", "peak_bytes")


def row_of(trial: Trial, live: LiveTrial | None) -> Row:
    """A trial's row: settings, state, value, its run and how far that came."""
    marks = trial.marks
    losses = [loss for loss in map(abs, trial.reported.values()) if loss < float("inf")]
    far = took(live) if live is not None else marks.get("took", {})
    return {
        "trial": trial.number,
        "params": trial.params,
        "state": trial.state,
        "value": trial.value,
        **{name: far.get(name) for name in _TOOK},
        "best_eval_loss": far.get("best_eval_loss") or (min(losses) if losses else None),
        "run": live.run.id if live is not None else marks.get("run"),
        "owner": trial.owner,
        "reason": str(marks.get("why", "")),
    }


def took(live: LiveTrial) -> dict[str, Any]:
    """How far a run has come and what it took: noted in the study when it ends, for whoever shares that."""
    summary = summary_or_empty(live.run.path).to_json()
    now = {"step": live.step, "steps_total": live.steps_total, "peak_bytes": live.peak_bytes}
    return now | {name: summary[name] for name in _TOOK if summary.get(name) is not None}


def write_rows(directory: Path, rows: Sequence[Row]) -> None:
    """Put trials.json in place."""
    write_json_atomic(directory / "trials.json", {"v": 1, "trials": list(rows)})


def ranked(rows: Sequence[Row], metric: str) -> list[Row]:
    """Rows with their `rank`: by value, then those that were ended early by how well they stood, then the rest."""
    sign = 1.0 if metric == "eval_loss" else -1.0
    order = {"completed": 0, "pruned": 1, "running": 2, "waiting": 3, "failed": 4}

    def key(row: Row) -> tuple[int, float, float, int]:
        value, loss = row["value"], row["best_eval_loss"]
        return (
            order.get(row["state"], 5),
            sign * value if value is not None else 0.0,
            loss if loss is not None else float("inf"),
            row["trial"],
        )

    in_order = sorted(rows, key=key)
    return [{**row, "rank": place if row["value"] is not None else None} for place, row in enumerate(in_order, 1)]


def drop_weights(run_id: str | None) -> None:
    """Delete weights and checkpoints of a run that has ended; events, settings and reports stay."""
    if not run_id:
        return
    path = store.runs_root() / run_id
    for name in _WEIGHTS:
        shutil.rmtree(path / name, ignore_errors=True)
