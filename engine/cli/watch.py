"""Watch a run or a sweep until it ends, as text or JSON Lines.

Not here: following a worker that the same command started (`following.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from engine.cli.common import line, print_json_line
from engine.cli.progress import Progress, status_line
from engine.runs.events import EVENT_VERSION, Event
from engine.runs.follow import fold_run, follow_run
from engine.runs.health import HealthFold
from engine.runs.record import RunRecord, load_record
from engine.runs.state import run_state
from engine.runs.store import Run

_LINES_BEFORE = 10


def watch(watched: Run, *, as_json: bool) -> None:
    """Follow `watched` until it has ended and every event is shown."""
    _print_events(watched) if as_json else _show_events(watched)


def _print_events(watched: Run) -> None:
    for event in _to_end(watched, 0):
        print_json_line(event)


def _to_end(watched: Run, offset: int, idle: Callable[[], None] = lambda: None) -> Iterator[Event]:
    """Every event of events.jsonl from `offset` on, then one of type `end`.

    A `finished` event cannot mark the end: a resumed run has several, a killed run has none.
    """
    step = None
    for event in follow_run(watched, offset=offset, idle=idle):
        yield event
        step = event.get("step", step)
    end = {"v": EVENT_VERSION, "t": round(time.time(), 3), "type": "end", "run": watched.id}
    yield {**end, "outcome": run_state(watched), "step": step}


def _show_events(watched: Run) -> None:
    record = load_record(watched.path)
    planned = record.prediction.tokens_per_second if isinstance(record, RunRecord) else None
    progress = Progress()
    progress.health = HealthFold(planned)
    fold, offset = fold_run(watched, progress.health)
    for _, _, text in fold.lines[-_LINES_BEFORE:]:
        line(text)
    if status := status_line(fold):
        line(status)
    progress.fold = fold
    for event in _to_end(watched, offset, progress.tell_concerns):
        progress(event)
    progress.close()
