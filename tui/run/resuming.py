"""Going on with a run that has ended, from its newest checkpoint. A worker is started in a thread."""

from __future__ import annotations

import subprocess
from functools import partial

from textual.widget import Widget

from engine.api import runs
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.reading.tail import events_end
from tui.run.follower import WorkerStarted
from tui.text import trouble
from tui.widgets.panes import notify


class Resumer:
    """Starts one worker at a time and posts `WorkerStarted` to `owner`, or says why it cannot."""

    def __init__(self, owner: Widget) -> None:
        self._owner, self._lane = owner, Lane(owner, "resume")

    def resume(self, run: Run) -> None:
        """Start a worker for `run`, unless one is being started."""
        if self._lane.busy:
            return
        notify(self._owner, "starting a worker …")
        offset = events_end(run)
        self._lane.submit(partial(runs.resume_run, run), partial(self._started, run, offset), self._report)

    def _started(self, run: Run, offset: int, process: subprocess.Popen[bytes]) -> None:
        self._owner.post_message(WorkerStarted(run, process, offset))

    def _report(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        notify(self._owner, trouble(error), error=True)
