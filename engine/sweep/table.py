"""Trials as rows: what trials.json, `engine sweeps show` and the deck have of them, and their ranking.

Light: no Optuna here. The sweep's worker writes; whoever shows a sweep reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.runs import store
from engine.runs.files import read_json, write_json_atomic

if TYPE_CHECKING:
    from engine.sweep.study import Noted
    from engine.sweep.trial import LiveTrial

Row = dict[str, Any]
ENDED = ("completed", "pruned", "failed")
_WEIGHTS = ("checkpoints", "adapter", "model", "adapter-initial")


def row_of(noted: Noted, live: LiveTrial | None) -> Row:
    """A trial's row: settings, state, value, its run and how far that came."""
    marks = noted.marks
    run_id = live.run.id if live is not None else marks.get("run")
    path = store.runs_root() / str(run_id) if run_id else None
    summary = read_or_empty(path / "summary.json") if path is not None else {}
    losses = [loss for loss in map(abs, noted.reported.values()) if loss < float("inf")]
    return {
        "trial": noted.number,
        "params": noted.params,
        "state": noted.state,
        "value": noted.value,
        "best_eval_loss": summary.get("best_eval_loss", min(losses) if losses else None),
        "best_step": summary.get("best_step"),
        "step": live.step if live is not None else summary.get("step"),
        "steps_total": live.steps_total if live is not None else summary.get("steps_total"),
        "seconds": summary.get("seconds"),
        "peak_bytes": live.peak_bytes if live is not None else marks.get("peak_bytes"),
        "run": run_id,
        "owner": noted.owner,
        "reason": str(marks.get("why", "")),
    }


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

    found = sorted(rows, key=key)
    return [{**row, "rank": place if row["value"] is not None else None} for place, row in enumerate(found, 1)]


def drop_weights(run_id: str | None) -> None:
    """Delete weights and checkpoints of a run that has ended; events, settings and reports stay."""
    if not run_id:
        return
    path = store.runs_root() / run_id
    for name in _WEIGHTS:
        shutil.rmtree(path / name, ignore_errors=True)


def read_or_empty(path: Path) -> dict[str, Any]:
    """A JSON object, empty when it is missing or damaged: for what is shown."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}
