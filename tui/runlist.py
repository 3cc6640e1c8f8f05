"""All runs as rows: state, model, steps, best evaluation, age. Read in a thread, cached by file times.

Only the end of an event file is read here; the whole run is folded when it is attached.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from textual.content import Content

from engine import api
from engine.api import Run, RunFold
from engine.errors import EngineError
from tui.snapshot import Facts, error_lines, make_facts, value
from tui.text import STATE_STYLES, Part, age, fit, fit_right, line, number, safe

MOST = 200
_TAIL_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of the list."""

    run: Run
    state: str
    facts: Facts
    step: int = 0
    steps_total: int = 0
    best: float | None = None
    last_time: float = 0.0
    error: tuple[str, ...] = ()


class RunList:
    """Reads rows; keeps what has not changed since. Used by one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[float, int], RunFold, Facts]] = {}

    def read(self) -> tuple[RunRow, ...]:
        """The newest runs."""
        runs = api.list_runs()[:MOST]
        known = {run.id for run in runs}
        self._kept = {run_id: kept for run_id, kept in self._kept.items() if run_id in known}
        return tuple(row for row in (self._row(run) for run in runs) if row is not None)

    def _row(self, run: Run) -> RunRow | None:
        try:
            stamp = _stamp(run)
            kept = self._kept.get(run.id)
            if kept is None or kept[0] != stamp:
                kept = (stamp, _fold_tail(run), kept[2] if kept else _facts(run))
                self._kept[run.id] = kept
            state = safe(api.run_state(run), 20)
        except OSError:
            return None  # removed while we looked
        _, fold, facts = kept
        best = value(fold.best_eval or fold.last_eval or None, "loss")
        error = error_lines(EngineError.from_dict(fold.error)) if fold.error else ()
        last = fold.last_time or stamp[0]
        return RunRow(run, state, facts, fold.step, fold.steps_total, best, last, error)


def _stamp(run: Run) -> tuple[float, int]:
    path = run.events_path if run.events_path.exists() else run.path
    found = os.stat(path)
    return found.st_mtime, found.st_size


def _facts(run: Run) -> Facts:
    try:
        return make_facts(run.id, api.load_run_json(run))
    except EngineError:
        return make_facts(run.id, {})


def _fold_tail(run: Run) -> RunFold:
    """Fold of the last events: enough for the step, the newest evaluation and how it ended."""
    fold = RunFold()
    if not run.events_path.exists():
        return fold
    offset = max(0, run.events_path.stat().st_size - _TAIL_BYTES)
    for event in api.read_events(run.events_path, offset)[0]:
        fold.apply(event)
    return fold


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the list; 0 = left out."""

    name: int
    model: int
    best: int


def columns(width: int) -> Columns:
    """Columns for rows of `width`; state, steps and age are always there."""
    fixed = 2 + 11 + 15 + 8 + 1
    best = 9 if width >= 70 else 0
    rest = width - fixed - best
    model = rest * 2 // 5 if width >= 70 else 0
    return Columns(rest - model, model, best)


def heading(width: int) -> Content:
    """The names of the columns."""
    at = columns(width)
    text = "  " + fit("run", at.name) + fit("state", 11) + fit("model", at.model)
    text += fit_right("step", 15) + fit_right("best" if at.best else "", at.best) + fit_right("age", 8)
    return Content.styled(text, "dim")


def run_row(row: RunRow, now: float, width: int, current: bool) -> Content:
    """One line of the list."""
    at = columns(width)
    total = f" of {row.steps_total:,}" if row.steps_total else ""
    steps = f"{row.step:,}{total}" if row.step or total else "–"
    cells: list[Part] = [
        ("> " if current else "  ", "bold"),
        fit(short_id(row), at.name - 1) + " ",
        (fit(row.state, 11), STATE_STYLES.get(row.state, "dim")),
        (fit(row.facts.model.rpartition("/")[2], max(0, at.model - 1)) + (" " if at.model else ""), "dim"),
        fit_right(steps, 15),
        fit_right(number(row.best, ".4f") if row.best is not None else "–", at.best) if at.best else "",
        (fit_right(age(now - row.last_time), 8), "dim"),
    ]
    shown = line(*cells)
    return Content(shown.plain) if current else shown


def short_id(row: RunRow) -> str:
    """The id without its date."""
    from tui.snapshot import short_name

    return short_name(row.facts.run_id)
