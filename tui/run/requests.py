"""What a run's worker is asked for from the deck: a checkpoint, an evaluation, its end.

The worker reads requests between two steps; nothing here waits for it. Not here: when a request makes sense
(`commands.py`), and going on with a run that has ended (`resuming.py`).
"""

from __future__ import annotations

from textual.widget import Widget

from engine.api import runs
from engine.api.runs import Run
from tui.reading.snapshot import RunSnapshot
from tui.run.view import stop_question
from tui.widgets.dialogs import Confirm
from tui.widgets.panes import notify


def request(owner: Widget, run: Run, what: str, done: str) -> None:
    """Ask the run for `what` and say `done`, or why it cannot be asked."""
    try:
        runs.request(run.path, what)
    except OSError as error:
        notify(owner, f"the run cannot be asked: {error.strerror}", error=True)
        return
    notify(owner, done)


def stop(owner: Widget, run: Run, snapshot: RunSnapshot) -> None:
    """Stop the run once somebody has confirmed it; of a run that was deleted, kill what is left."""
    orphaned = snapshot.orphan_pid is not None

    def answer(yes: bool | None) -> None:
        if yes and orphaned:
            _kill_orphan(owner, run)
        elif yes:
            request(owner, run, "stop", "asked to stop")

    question = Confirm(stop_question(snapshot), "kill it" if orphaned else "stop it", final=orphaned)
    owner.app.push_screen(question, answer)


def _kill_orphan(owner: Widget, run: Run) -> None:
    pid = runs.end_orphan(run.id)
    notify(owner, "its worker has ended already" if pid is None else f"killed process {pid}")
