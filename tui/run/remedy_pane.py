"""The run screen's way on from a failure: remedies found in a thread, done with one key. `run.py` builds on it."""

from __future__ import annotations

from functools import partial
from typing import Any

from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.reading.snapshot import RunSnapshot
from tui.run.commands import RemediesState
from tui.run.log_pane import LogScreen
from tui.run.remedies import Mending, apply_remedy, find_remedies
from tui.run.view import remedy_line
from tui.text import safe
from tui.widgets.dialogs import Pick


class MendingScreen(LogScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._mender = Lane(self, "mend")
        self._looked_at = 0.0

    def _show(self) -> None:
        """Everything; the screen draws it."""
        raise NotImplementedError

    def follow_attached(self) -> None:
        """Follow the attached run; the screen does."""
        raise NotImplementedError

    def _look_for_remedies(self, shot: RunSnapshot) -> None:
        """Once for each failure, in a thread: every remedy is a prediction of its own."""
        if self._run is None or shot.state not in ("failed", "lost") or shot.last_time == self._looked_at:
            return
        self._looked_at = shot.last_time
        self.deck.put(RemediesState())
        work = partial(find_remedies, self._run, shot.failure or {}, shot.limit_bytes)
        self._mender.submit(work, self._found_remedies, self._no_remedies)

    def _found_remedies(self, mending: Mending) -> None:
        if mending.failure.run is self._run:
            self.deck.put(RemediesState(mending))
            self._show()

    def _no_remedies(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            raise error
        self.say(safe(error, 400), error=True)

    def do_remedy(self) -> None:
        """The first remedy."""
        self._mend(0)

    def do_remedies(self) -> None:
        """One of the remedies."""
        mending = self.deck.of(RemediesState).mending
        if mending is not None:
            choices = [remedy_line(item, 36) for item in mending.found]
            self.app.push_screen(Pick("Go on with", choices), self._mend)

    def _mend(self, index: int | None) -> None:
        mending, run = self.deck.of(RemediesState).mending, self._run
        if index is None or mending is None or run is None or self._mender.busy:
            return
        remedy = mending.found[index]
        offset = run.events_path.stat().st_size if run.events_path.exists() else 0
        self.say(f"{safe(remedy.label, 100)}: starting the worker …")
        work = partial(apply_remedy, mending, remedy)
        self._mender.submit(work, partial(self._mended, offset), self._no_remedies)

    def _mended(self, offset: int, result: tuple[Run, Any]) -> None:
        run, process = result
        same = self._run is not None and run.id == self._run.id
        self._run = None if same else self._run  # the same run, followed anew
        self.deck_app.attach(run, process, offset if same else 0)
        self.follow_attached()
