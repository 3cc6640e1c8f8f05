"""What stands in place of the curves: the preparation before the first step, or why a run failed and what helps.

Remedies are searched for and carried out in a thread: each one is a prediction of its own.
"""

from __future__ import annotations

import subprocess
from functools import partial

from textual.message import Message

from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.reading.snapshot import RunSnapshot
from tui.reading.tail import events_end
from tui.run.follower import WorkerStarted
from tui.run.remedies import Remedies, apply_remedy, find_remedies
from tui.run.view import failure, remedy_choices
from tui.text import safe, short_path, trouble
from tui.widgets.dialogs import Pick
from tui.widgets.lines import Line
from tui.widgets.panes import notify


class RemedyPane(Line):
    """Finds remedies once for each failure, shows them, and goes on with one."""

    class Found(Message):
        """Remedies were found, or there are none: `remedies` says which."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.remedies: Remedies | None = None
        """What was found for the failure that is shown; None while the search goes on."""
        self._run: Run | None = None
        self._searched_at = 0.0
        """Time of the failure for which remedies were searched."""
        self._lane = Lane(self, "remedies")

    def reset(self, run: Run | None) -> None:
        """Prepare for another run, or for the same one going on."""
        self._run, self.remedies, self._searched_at = run, None, 0.0

    def find(self, snapshot: RunSnapshot) -> None:
        """Search for remedies if the run failed and nobody has searched yet."""
        failed = snapshot.state in ("failed", "lost")
        if self._run is None or not failed or snapshot.last_time == self._searched_at:
            return
        self._searched_at, self.remedies = snapshot.last_time, None
        work = partial(find_remedies, self._run, snapshot.failure or {}, snapshot.limit_bytes)
        self._lane.submit(work, self._on_found, self._report)

    def show_failure(self, snapshot: RunSnapshot) -> None:
        """Why the run failed, what would help, and where to read more."""
        log_path = short_path(self._run.path / "worker.log") if self._run else ""
        self.show(failure(snapshot, self.remedies, log_path, self.screen.size.width - 4))

    def _on_found(self, remedies: Remedies) -> None:
        if remedies.failure.run is self._run:
            self.remedies = remedies
            self.post_message(self.Found())

    def _report(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        notify(self, trouble(error), error=True)

    def apply_first(self) -> None:
        """Go on with the remedy to try first."""
        self._apply(0)

    def choose(self) -> None:
        """Let somebody choose the remedy to go on with."""
        if self.remedies is not None:
            choices = remedy_choices(self.remedies.items, Pick.wide_room(self.app.size.width))
            self.app.push_screen(Pick("Go on with", choices, wide=True), self._apply)

    def _apply(self, index: int | None) -> None:
        remedies = self.remedies
        if index is None or remedies is None or self._lane.busy:
            return
        failed = remedies.failure.run
        offset = events_end(failed)
        remedy = remedies.items[index]
        notify(self, f"{safe(remedy.label, 100)}: starting the worker …")
        started = partial(self._on_started, failed, offset)
        self._lane.submit(partial(apply_remedy, remedies, remedy), started, self._report)

    def _on_started(self, failed: Run, offset: int, started: tuple[Run, subprocess.Popen[bytes]]) -> None:
        run, process = started
        self.post_message(WorkerStarted(run, process, offset if run.id == failed.id else 0))
