"""A sweep as text: its ranked trials, the combinations left out, and predicted beside actual cost.

Not here: the commands (`sweep.py`, `sweeps.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.cli.common import line, note, number, table
from engine.errors import EngineError
from engine.runs import store as runs
from engine.runs.events import read_events
from engine.runs.state import run_state
from engine.runs.store import Run
from engine.sweep import store
from engine.sweep.page import params_text, value_text
from engine.sweep.table import ENDED, TrialRow, ranked, read_rows
from engine.text import format_bytes, format_duration


@dataclass(frozen=True, slots=True)
class Shown:
    """The state of a sweep: its `sweep.json`, its ranked rows, and the cost so far."""

    sweep: Run
    settings: dict[str, Any]
    rows: tuple[TrialRow, ...]
    took: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        left_out = self.settings["left_out"]
        return {
            **summary(self.sweep),
            "path": str(self.sweep.path),
            "bill": self.settings["bill"],
            "took": self.took,
            "left_out": left_out,
            "rows": [row.to_json() for row in self.rows],
        }


def look(sweep: Run) -> Shown:
    """Read a sweep's directory. Raises EngineError(PROFILE) when it is damaged."""
    settings = store.read_sweep(sweep)
    rows = ranked(read_rows(sweep.path), settings["metric"])
    return Shown(sweep, settings, tuple(rows), _took(sweep, rows))


def summary(sweep: Run) -> dict[str, Any]:
    """Id, state, number of ended and of all trials, metric and best value."""
    try:
        settings = store.read_sweep(sweep)
    except EngineError:
        settings = {}
    rows = ranked(read_rows(sweep.path), str(settings.get("metric", "eval_loss")))
    return {
        "sweep": sweep.id,
        "state": run_state(sweep) if settings else "damaged",
        "ended": sum(1 for row in rows if row.state in ENDED),
        "trials": settings.get("trials", 0),
        "metric": settings.get("metric", "?"),
        "best_value": rows[0].value if rows else None,
    }


def show_sweep(shown: Shown) -> None:
    """Print the ranked table, why trials ended early, what was left out, and the cost."""
    settings, rows, head = shown.settings, shown.rows, summary(shown.sweep)
    line(f"{head['sweep']}  {head['state']}  {head['ended']} of {head['trials']} trials, by {head['metric']}")
    keys = list(settings["keys"])
    names = [key.rpartition(".")[2] for key in keys]
    header = ("rank", "trial", *names, settings["metric"], "steps", "time", "state")
    right = tuple(range(len(header) - 1))
    for text in table([_cells(row, keys) for row in rows], header=header, right=right):
        line(text)
    for row in rows:
        if row.reason:
            line(f"  trial {row.trial}: {row.reason}")
    for left in settings["left_out"]:
        line(f"  left out: {params_text(left['params'])}: {left['why']}")
    for text in _bill_lines(settings["bill"], shown.took):
        line(text)
    if rows and rows[0].value is not None:
        where = "" if rows[0].owner == shown.sweep.id else " on another machine"
        note(f"best: run {rows[0].run}{where}; as a profile: engine sweeps best {shown.sweep.id} --write best.toml")


def _cells(row: TrialRow, keys: Sequence[str]) -> list[str]:
    steps = f"{row.step}/{row.steps_total}" if row.step is not None else "-"
    return [
        str(row.rank or "-"),
        str(row.trial),
        *(value_text(row.params.get(key, "-")) for key in keys),
        number(row.value),
        steps,
        format_duration(row.seconds) if row.seconds is not None else "-",
        row.state,
    ]


def _took(sweep: Run, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """The cost so far: seconds of its workers, the measured peak of the widest trial, the disk of its runs."""
    peaks = [row.peak_bytes for row in rows if row.peak_bytes]
    mine = [runs.runs_root() / row.run for row in rows if row.run and row.owner == sweep.id]
    files = (path for run in mine for path in Path(run).rglob("*") if path.is_file())
    return {
        "seconds": _worked_s(sweep),
        "device_bytes": max(peaks) if peaks else None,
        "disk_bytes": sum(path.stat().st_size for path in files),
    }


def _worked_s(sweep: Run) -> float:
    """Seconds from each start to the last event before the next start: a killed worker writes no end."""
    worked_s, began, last = 0.0, None, 0.0
    for event in read_events(sweep.events_path)[0]:
        if event["type"] == "started":
            worked_s += last - began if began is not None else 0.0
            began = event["t"]
        last = event["t"]
    return round(worked_s + (last - began if began is not None else 0.0), 1)


def _bill_lines(bill: dict[str, Any], took: dict[str, Any]) -> list[str]:
    seconds, peak = bill.get("seconds"), took["device_bytes"]
    said = f"about {format_duration(seconds)}" if seconds is not None else "not known"
    rows = [
        ["time", said, format_duration(took["seconds"])],
        ["memory", format_bytes(bill["device_bytes"]), format_bytes(peak) if peak else "-"],
        ["disk", f"up to {format_bytes(bill['disk_bytes'])}", format_bytes(took["disk_bytes"])],
    ]
    return table(rows, header=("bill", "said", "took"))
