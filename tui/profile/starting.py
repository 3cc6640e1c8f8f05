"""A run or a search started from the open profile: checked and saved first, its worker detached from the deck."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.api import fit, profiles, sweeps
from tui.background import Lane
from tui.documents import document
from tui.documents.form import Form
from tui.documents.launching import launch
from tui.frame.deck import deck_of
from tui.profile.files import ProfileFiles
from tui.profile.form_pane import FormPane
from tui.profile.problems_pane import ProblemsPane
from tui.text import age, safe
from tui.widgets.dialogs import Confirm
from tui.widgets.panes import notify

if TYPE_CHECKING:
    from engine.api.profiles import PreparedSweep
    from engine.api.runs import Run


LATE_S = 2.0
"""A question that comes later than this may meet keys that were meant for something else."""


class Starter:
    """Starts what the form that `pane` shows describes."""

    def __init__(
        self, pane: FormPane, problems: ProblemsPane, files: ProfileFiles, changed: Callable[[], None]
    ) -> None:
        self._changed = changed
        """Called when `doing` is something else."""
        self._phase, self._asked = "", 0.0
        self._pane, self._problems, self._files = pane, problems, files
        self._lane = Lane(pane, "start")
        self._question: Callable[[], None] | None = None
        """What is asked when the open field is closed."""

    def start_run(self) -> None:
        """Save what was edited, then start a detached run and show it."""
        self._pane.prediction.when_checked(self._start_run)

    def _start_run(self) -> None:
        form = self._sound_form()
        if form is not None:
            self._lane.submit(partial(launch, form.text(), form.path), self._run_started, self._pane.prediction.fail)

    def _run_started(self, started: tuple[Run, subprocess.Popen[bytes]]) -> None:
        deck_of(self._pane).attach(*started)

    def start_sweep(self) -> None:
        """Save what was edited, show what the search would take, and start it when that is wanted."""
        self._pane.prediction.when_checked(self._prepare_sweep)

    def _prepare_sweep(self) -> None:
        form = self._sound_form()
        if form is None:
            return
        self._asked = time.monotonic()
        self._tell("trying which combinations can run")
        work = partial(prepare, form.text(), form.path, self._hear)
        self._lane.submit(work, partial(self.ask_to_sweep, form.path.stem), self._not_prepared)

    @property
    def doing(self) -> str:
        """What the search waits for, and since when; empty for nothing."""
        return f"{self._phase} … {age(time.monotonic() - self._asked)}" if self._phase else ""

    def _tell(self, phase: str) -> None:
        self._phase = phase
        self._changed()

    def _hear(self, event: dict[str, Any]) -> None:
        """In the worker's thread."""
        self._pane.call_later(self._heard, event)

    def _heard(self, event: Mapping[str, Any]) -> None:
        done, total = event.get("done"), event.get("total")
        if self._phase and isinstance(done, int) and isinstance(total, int) and total > 0:
            self._tell(f"counting the data: {done:,} of {total:,} rows")

    def _not_prepared(self, error: Exception) -> None:
        self._tell("")
        self._pane.prediction.fail(error)

    def _sound_form(self) -> Form | None:
        """The form, when nothing is wrong with it and its file holds it; else a person has been told."""
        form = self._pane.form
        if form is None or self._lane.busy or not self._problems.allow("not started"):
            return None
        return form if not form.dirty or self._files.save() else None

    def ask_to_sweep(self, name: str, prepared: PreparedSweep) -> None:
        """Ask; neither over an open field nor over another screen. Of a question that comes late enter is no answer."""
        self._tell("")
        elsewhere = self._pane.app.screen is not self._pane.screen
        if elsewhere or self._pane.editor is not None:
            self._question = partial(self.ask_to_sweep, name, prepared)
            when = "on screen 2" if elsewhere else "when this field is closed"
            notify(self._pane, f"what the search takes is known: it is asked {when}")
            return
        late = time.monotonic() - self._asked > LATE_S

        def take(yes: bool | None) -> None:
            if yes:
                self._lane.submit(partial(begin, prepared, name), self._sweep_started, self._pane.prediction.fail)

        self._pane.app.push_screen(Confirm(bill_text(prepared), "start the search", final=late), take)

    def ask_now(self) -> None:
        """Ask what waited for a field to be closed, or for the screen."""
        if self._question is not None:
            ask, self._question = self._question, None
            ask()

    def _sweep_started(self, sweep: Run) -> None:
        self._pane.app.switch_mode("runs")
        notify(self._pane, f"searching: engine sweeps watch {safe(sweep.id, 80)}")


def prepare(text: str, path: Path, told: Callable[[dict[str, Any]], None]) -> PreparedSweep:
    """Resolve what would be tried and count the data. Takes seconds: not for the screen's loop. Raises EngineError."""
    return profiles.prepare_sweep(document.loaded(text, path), fit.probe_machine(), told)


def bill_text(prepared: PreparedSweep) -> str:
    """The bill and what a person should know before it starts."""
    lines = [*sweeps.cost_lines(prepared), *(f"warning: {warning}" for warning in prepared.warnings)]
    return "\n".join(safe(line, 300) for line in lines)


def begin(prepared: PreparedSweep, name: str) -> Run:
    """Start the search; it goes on without the deck. Raises EngineError."""
    return sweeps.start_sweep(prepared, name)[0]
