"""Watch a run or a sweep until it ends, as text or JSON Lines.

Not here: following a worker that the same command started (`following.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from engine.cli.common import line, print_json_line
from engine.cli.progress import Progress, status_line
from engine.runs import store
from engine.runs.events import EVENT_VERSION, Event, read_events
from engine.runs.store import Run
from engine.runs.view import RunFold

_OVER = ("completed", "stopped", "failed", "lost")
_POLL_S = 0.5
_LINES_BEFORE = 10


def watch(watched: Run, *, as_json: bool) -> None:
    """Follow `watched` until it has ended and every event is shown."""
    _print_events(watched) if as_json else _show_events(watched)


def fold_run(run: Run) -> tuple[RunFold, int]:
    """Fold all events of a run; also the offset after the last."""
    fold, offset = RunFold(), 0
    while True:
        events, after = read_events(run.events_path, offset)
        for event in events:
            fold.apply(event)
        if after == offset:
            return fold, offset
        offset = after


def _print_events(watched: Run) -> None:
    for event in _to_end(watched, 0):
        print_json_line(event)


def _to_end(watched: Run, offset: int) -> Iterator[Event]:
    """Every event of events.jsonl from `offset` on, then one of type `end`.

    A `finished` event cannot mark the end: a resumed run has several, a killed run has none.
    """
    step = None
    while True:
        state = store.run_state(watched)
        events, offset = read_events(watched.events_path, offset)
        for event in events:
            yield event
            step = event.get("step", step)
        if events:
            continue
        if state in _OVER:
            break
        time.sleep(_POLL_S)
    end = {"v": EVENT_VERSION, "t": round(time.time(), 3), "type": "end", "run": watched.id}
    yield {**end, "outcome": state, "step": step}


def _show_events(watched: Run) -> None:
    fold, offset = fold_run(watched)
    for _, _, text in fold.lines[-_LINES_BEFORE:]:
        line(text)
    if status := status_line(fold):
        line(status)
    progress = Progress()
    progress.fold = fold
    for event in _to_end(watched, offset):
        progress(event)
    progress.close()
