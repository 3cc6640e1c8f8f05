"""Following one run for the run screen: its events are read in a thread, and a start that fails is noticed.

News comes back as messages to the screen; reading itself is in `tui.reading.tail`.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace

from textual.message import Message
from textual.message_pump import MessagePump

from engine.api import runs
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import in_thread
from tui.reading.snapshot import RunSnapshot, error_lines, make_facts
from tui.reading.tail import RunTail


class SnapshotMessage(Message):
    """The newest snapshot of a run; an older one that still waits is dropped."""

    def __init__(self, run: Run, snapshot: RunSnapshot) -> None:
        super().__init__()
        self.run, self.snapshot = run, snapshot

    def can_replace(self, message: MessagePump | Message) -> bool:
        """Only the last one counts."""
        return isinstance(message, SnapshotMessage)


class StartFailed(Message):
    """A run that this deck started ended before it trained; its directory is gone."""

    def __init__(self, run: Run, error: EngineError) -> None:
        super().__init__()
        self.run, self.error = run, error


class WorkerStarted(Message):
    """A worker was started that goes on with the run that is shown, or with another one in its place."""

    def __init__(self, run: Run, process: subprocess.Popen[bytes], offset: int) -> None:
        super().__init__()
        self.run, self.process = run, process
        self.offset = offset
        """Byte of the event file where what this worker writes begins; 0 for a new run."""


class RunFollower:
    """The run that is followed, its newest snapshot, and the threads that read it."""

    def __init__(self, owner: MessagePump) -> None:
        self.run: Run | None = None
        self.latest: RunSnapshot | None = None
        self.held = False
        """Whether the picture is held still: snapshots go on being read, but are no news."""
        self._owner = owner
        self._tail: RunTail | None = None

    def follow(
        self, run: Run | None, interval_s: float, process: subprocess.Popen[bytes] | None = None, offset: int = 0
    ) -> None:
        """Follow `run` from now on; None for no run.

        `process`: its worker when this deck started it; `offset`: byte where what that worker writes begins.
        """
        self.stop()
        self.run, self.latest, self._tail, self.held = run, None, None, False
        if run is None:
            return
        post = self._owner.post_message
        self._tail = RunTail(run, lambda snapshot: post(SnapshotMessage(run, snapshot)), interval_s)
        self._tail.start()
        if process is not None:
            self._watch_start(run, process, offset)

    def _watch_start(self, run: Run, process: subprocess.Popen[bytes], offset: int) -> None:
        def wait() -> None:
            try:
                # A run that goes on has something to lose: only one that never began is cleared away.
                runs.wait_started(run, process, lambda event: None, offset=offset, keep=offset > 0)
            except EngineError as error:
                if not offset:
                    self._owner.post_message(StartFailed(run, error))

        in_thread(wait, f"start {run.id}")

    def accept(self, message: SnapshotMessage | StartFailed) -> bool:
        """Make what a message says the newest snapshot; False when there is nothing new to show of this run.

        A failed start is shown even while the picture is held still.
        """
        if message.run is not self.run:
            return False
        if isinstance(message, StartFailed):
            self.stop()
            base = self.latest or RunSnapshot(make_facts(message.run.id, None))
            self.latest = replace(base, state="not started", error=error_lines(message.error))
            return True
        # A run that could not start is removed: its error stays on the screen.
        if self.latest is not None and self.latest.state == "not started" and message.snapshot.state == "removed":
            return False
        self.latest = message.snapshot
        return not self.held

    def look(self, window: tuple[float, float] | None) -> None:
        """Read these steps at full resolution; None for the whole curve alone."""
        if self._tail:
            self._tail.look(window)

    def hide(self, hidden: bool) -> None:
        """Read less often while nobody looks."""
        if self._tail:
            self._tail.hide(hidden)

    def stop(self) -> None:
        """End the reading thread."""
        if self._tail:
            self._tail.stop()
