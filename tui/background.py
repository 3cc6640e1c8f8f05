"""Work off the screen's loop: probing, ranking, resolving, starting.

Daemon threads, not Textual's thread workers: those are waited for at exit, and a driver that hangs
or a worker that loads for a minute must not keep the deck from closing.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from textual.message_pump import MessagePump
from textual.timer import Timer

T = TypeVar("T")
Job = tuple[Callable[[], Any], Callable[[Any], None], Callable[[Exception], None]]


def in_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Run `target` in a daemon thread that knows the running app."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(target,), name=name, daemon=True)
    thread.start()
    return thread


class Lane:
    """One job at a time for one owner; a newer job takes the place of one that still waits.

    Results and errors come back on the owner's loop. A job that was replaced while it ran reports
    nothing, so an old answer never overwrites a new question.
    """

    def __init__(self, owner: MessagePump, name: str) -> None:
        self._owner = owner
        self._name = name
        self._lock = threading.Lock()
        self._waiting: Job | None = None
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self._busy

    def submit(self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        """Run `work` in a thread, then `done(result)` or `failed(error)` on the owner's loop."""
        with self._lock:
            self._waiting = (work, done, failed)
            if self._busy:
                return
            self._busy = True
        in_thread(self._run, self._name)

    def _run(self) -> None:
        free = False
        while not free:
            with self._lock:
                job, self._waiting = self._waiting, None
            free = job is None or self._report(*_outcome(*job))

    def _report(self, callback: Callable[[Any], None], value: Any) -> bool:
        """Hand the result over unless a newer job waits; whether the lane is free, as it is before anyone reads it."""
        with self._lock:
            self._busy = self._waiting is not None
            if not self._busy:
                self._owner.call_later(callback, value)
            return not self._busy


def _outcome(
    work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]
) -> tuple[Callable[[Any], None], Any]:
    try:
        return done, work()
    except Exception as error:
        return failed, error


class Poll(Generic[T]):
    """Reads again every few seconds while its screen is seen, one read at a time."""

    def __init__(
        self,
        owner: MessagePump,
        name: str,
        every_s: float,
        read: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._owner, self._every_s = owner, every_s
        self._lane = Lane(owner, name)
        self._read, self._done, self._failed = read, done, failed
        self._timer: Timer | None = None

    @property
    def busy(self) -> bool:
        """Whether a read is under way."""
        return self._lane.busy

    def start(self) -> None:
        """Read after the first paint, then again and again. Call once the owner is mounted."""
        self._timer = self._owner.set_interval(self._every_s, self.read_now)
        self._owner.call_after_refresh(self.read_now)

    def read_now(self) -> None:
        """Read, unless a read is under way."""
        if not self._lane.busy:
            self._lane.submit(self._read, self._done, self._failed)

    def pause(self) -> None:
        """Rest: the screen is hidden."""
        if self._timer is not None:
            self._timer.pause()

    def resume(self) -> None:
        """Go on, and read at once."""
        if self._timer is not None:
            self._timer.resume()
            self.read_now()
