"""Following a run: a thread that reads new events, folds them, and posts what there is to see.

Reading, folding and sanitising happen here, never on the screen's loop. One immutable snapshot is
posted an interval, and only when something changed. Of a file of hundreds of MiB the end is read first.
Any number of decks may follow one run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from engine.api.runs import (
    LIVE_STATES,
    Concern,
    Event,
    EventReader,
    HealthFold,
    Run,
    RunFold,
    RunRecord,
    asked_at,
    fold_marks,
    load_record,
    orphans,
    run_state,
)
from tui.background import in_thread
from tui.reading.following import FollowedRun, close_up
from tui.reading.snapshot import (
    Detail,
    Facts,
    LogLine,
    RunSnapshot,
    make_error,
    make_facts,
    make_progress,
    value,
)
from tui.reading.strips import Strip, make_strips
from tui.text import safe

CHUNK_BYTES = 1024 * 1024
KEPT_LINES = 1000
LONG_BYTES, NEWEST_BYTES = 4 * CHUNK_BYTES, CHUNK_BYTES // 4
HIDDEN_INTERVAL_S = 5.0
Post = Callable[[RunSnapshot], object]


def events_end(run: Run) -> int:
    """Byte at which the events of the next worker will begin."""
    try:
        return run.events_path.stat().st_size
    except OSError:
        return 0


class RunReader:
    """The fold and the curves of one run, advanced by `read`; used by one thread."""

    def __init__(self, run: Run, events: EventReader | None = None) -> None:
        self.run = run
        self.facts: Facts | None = None
        self.window: tuple[float, float] | None = None
        """Steps that somebody wants to see at full resolution."""
        self._events = events or EventReader(run.events_path, limit_bytes=CHUNK_BYTES)
        self._skipped = self._events.offset > 0
        record = load_record(run.path)
        self._planned = record.prediction.tokens_per_second if isinstance(record, RunRecord) else None
        self._forget()

    @property
    def offset(self) -> int:
        """How much of the file has been read."""
        return self._events.offset

    def _forget(self) -> None:
        """As before the first event."""
        self.fold = RunFold()
        self._health = HealthFold(self._planned)
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        self._fresh: deque[tuple[float, str, str]] = deque(maxlen=KEPT_LINES)
        """Lines since the last snapshot; of a million only those that are seen are made ready."""
        self._lines_total = 0
        self._curves = FollowedRun(self.fold)
        self._strips: tuple[Strip, ...] | None = None
        """None where there are answers that no snapshot has shown."""

    def read(self) -> bool:
        """Take at most one chunk of new events; True when there were any."""
        before, restarts = self._events.offset, self._events.restarts
        events = self._events.read()
        if self._events.restarts != restarts:
            self._forget()
        for event in events:
            self._apply(event)
        return self._events.offset != before

    def _apply(self, event: Event) -> None:
        before = self.fold.lines[-1] if self.fold.lines else None
        self.fold.apply(event)
        self._health.apply(event)
        if self.fold.lines and self.fold.lines[-1] is not before:
            self._fresh.append(self.fold.lines[-1])
            self._lines_total += 1
        if event["type"] in ("started", "sample"):
            self._strips = None
        self._curves.apply(event)

    def _detail(self) -> Detail | None:
        if self.window is None:
            return None
        return Detail(*self.window, close_up(self.fold, *self.window))

    def state(self) -> str:
        """The run's state, without reading the file's end again where all of it is folded."""
        marks = fold_marks(self.fold, begun=self._skipped) if self._events.at_end else None
        return run_state(self.run, marks)

    def concerns(self, state: str) -> tuple[Concern, ...]:
        """What goes wrong now; silence does without any event."""
        return self._health.concerns(time.time(), live=state in LIVE_STATES)

    def orphan_pid(self, state: str) -> int | None:
        """The worker that lives on although its run was deleted."""
        return orphans().get(self.run.id) if state == "removed" else None

    def snapshot(self, state: str) -> RunSnapshot:
        """What there is to see now."""
        fold = self.fold
        if self.facts is None:
            self.facts = self._read_facts()
        self._lines.extend(LogLine(at, safe(kind, 20), safe(text, 1000)) for at, kind, text in self._fresh)
        self._fresh.clear()
        if self._strips is None:
            self._strips = make_strips(fold.samples)
        return RunSnapshot(
            facts=self.facts,
            state=state,
            phase=safe(fold.phase, 30),
            phase_detail=safe(fold.phase_detail, 200),
            phases=tuple(safe(name, 30) for name in fold.phases),
            phase_since=fold.phase_since,
            asked_at=(asked_at(self.run.path) or 0.0) if state == "starting" else 0.0,
            progress=make_progress(fold),
            step=fold.step,
            steps_total=fold.steps_total,
            last_step=fold.last_step or None,
            last_eval=fold.last_eval or None,
            best_eval=fold.best_eval or None,
            memory=fold.last_memory or None,
            checkpoint_step=fold.last_checkpoint.get("step"),
            curves=self._curves.curves(),
            detail=self._detail(),
            lines=tuple(self._lines),
            lines_total=self._lines_total,
            warnings=fold.warnings,
            concerns=self.concerns(state),
            health=self._health.history,
            last_time=fold.last_time,
            orphan_pid=self.orphan_pid(state),
            error=make_error(fold),
            failure=fold.error or None,
            limit_bytes=value(fold.shortage.get("measured"), "limit_bytes"),
            finished=fold.finished or None,
            strips=self._strips,
        )

    def _read_facts(self) -> Facts:
        return make_facts(self.run.id, load_record(self.run.path))


class RunTail:
    """The thread around a `RunReader`: posts snapshots until stopped."""

    def __init__(self, run: Run, post: Post, interval_s: float) -> None:
        self.run = run
        self._post = post
        self._interval_s = interval_s
        self._hidden = False
        self._wake = threading.Event()
        self._stopped = False
        self._window: tuple[float, float] | None = None
        self._posted_at = 0.0

    def start(self) -> None:
        """Begin to follow."""
        in_thread(self._loop, f"tail {self.run.id}")

    def stop(self) -> None:
        """End the thread; nothing is posted afterwards."""
        self._stopped = True
        self._wake.set()

    def hide(self, hidden: bool) -> None:
        """Slow down while nobody looks; look at once when somebody does."""
        self._hidden = hidden
        if not hidden:
            self._wake.set()

    def look(self, window: tuple[float, float] | None) -> None:
        """Show these steps at full resolution from now on; None = only the whole curve."""
        if window != self._window:
            self._window = window
            self._wake.set()

    def _loop(self) -> None:
        reader = RunReader(self.run)
        posted, unseen = "", False
        told: tuple[tuple[Concern, ...], int | None] = ((), None)
        ahead = newest_part(self.run)
        if ahead is not None:
            self._post(_joined(ahead, reader, ahead.state()))
        while not self._stopped:
            self._wake.clear()
            changed = reader.read()
            more = changed and reader.read()  # a second chunk: the file is long, show what there is and go on
            state = reader.state() if ahead is None else ahead.state()
            told_now = (reader.concerns(state), reader.orphan_pid(state))
            unseen = unseen or changed or state != posted or reader.window != self._window or told_now != told
            if unseen and not self._stopped and self._due(more):
                reader.window = self._window
                self._post(reader.snapshot(state) if ahead is None else _joined(ahead, reader, state))
                posted, told, unseen = state, told_now, False
            if ahead is not None and not more:
                ahead, posted = None, ""  # the whole file is known: from now on it alone counts
                continue
            if not more:
                self._wake.wait(HIDDEN_INTERVAL_S if self._hidden else self._interval_s)

    def _due(self, more: bool) -> bool:
        """Whether to post: at every turn, and once an interval while a long file is read."""
        now = time.monotonic()
        if more and now - self._posted_at < self._interval_s:
            return False
        self._posted_at = now
        return True


def newest_part(run: Run) -> RunReader | None:
    """A reader of a long file's end: how the run stands, while its history is still read. None for a short one."""
    try:
        if run.events_path.stat().st_size < LONG_BYTES:
            return None
    except OSError:
        return None
    return RunReader(run, EventReader.at_tail(run.events_path, NEWEST_BYTES))


def _joined(ahead: RunReader, reader: RunReader, state: str) -> RunSnapshot:
    """Where the run stands, with as much of its curves as has been read."""
    while ahead.read():
        pass
    share = reader.offset / max(1, ahead.offset)
    past = reader.snapshot(state)
    return replace(ahead.snapshot(state), curves=past.curves, health=past.health, strips=past.strips, reading=share)
