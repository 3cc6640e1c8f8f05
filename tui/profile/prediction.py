"""What the open profile comes to: checked and resolved in a thread, again after every edit and while somebody types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from textual.widget import Widget

from engine.api import fit
from engine.api.fit import Machine
from engine.errors import EngineError, Problem
from tui.background import Lane
from tui.documents.form import Form, Preview, preview
from tui.frame.deck import deck_of
from tui.text import safe, trouble
from tui.widgets.panes import notify


class Prediction:
    """Keeps `found` up to date with a form. `changed` is called whenever there is another one."""

    def __init__(self, owner: Widget, changed: Callable[[], None]) -> None:
        self.form: Form | None = None
        self.found = Preview()
        self.typed: dict[str, Any] = {}
        """What stands in an open field: it counts for the prediction, not yet for the form."""
        self._owner, self._changed = owner, changed
        self._lane = Lane(owner, "resolve")
        self._asked, self._found_for = "", ""
        """The texts that were last given to be checked, and that `found` is about."""
        self._then: Callable[[], None] | None = None

    def open(self, form: Form | None) -> None:
        """Begin with another form: nothing is known about it."""
        self.form = form
        self.found, self.typed = Preview(), {}
        self._found_for, self._then = "", None

    @property
    def is_busy(self) -> bool:
        """Whether a check is under way."""
        return self._lane.busy

    @property
    def is_awaited(self) -> bool:
        """Whether a command waits for a check."""
        return self._then is not None

    def refresh(self) -> None:
        """Check the form as it is now, with what is typed on top."""
        form = self.form
        if form is None:
            return
        try:
            self._asked = text = form.text(self.typed)
        except EngineError as error:
            self._resolved("", Preview(error.problems or (Problem(error.message, error.hint),)))
            return
        machine = deck_of(self._owner).deck.machine
        self._lane.submit(partial(_preview, text, form, machine), partial(self._resolved, text), self.fail)

    def _resolved(self, text: str, result: Preview) -> None:
        self.found, self._found_for = result, text
        self._changed()
        if self._then is not None and text in ("", self._text_now()):
            act, self._then = self._then, None
            act()

    def fail(self, error: Exception) -> None:
        """Say what went wrong; problems that the error names are the form's."""
        if not isinstance(error, EngineError):
            raise error
        self._then = None
        notify(self._owner, trouble(error), error=True)
        if error.problems:
            self._resolved(self._text_now(), Preview(error.problems))

    def _text_now(self) -> str:
        """The profile's text with what was taken; empty when there is none."""
        try:
            return self.form.text() if self.form is not None else ""
        except EngineError:
            return ""

    def when_checked(self, act: Callable[[], None]) -> None:
        """Do `act` when `found` is about the form as it is now: at once, or after the check that is under way."""
        now = self._text_now()
        if now in ("", self._found_for):
            act()
            return
        self._then = act
        if self._asked != now or not self._lane.busy:
            self.refresh()


def _preview(text: str, form: Form, machine: Machine | None) -> Preview:
    try:
        return preview(text, form.path, machine or fit.probe_machine(processes=False))
    except OSError as error:  # a path that is too long, a folder that may not be read
        return Preview((Problem(safe(error.strerror or error, 200), "shorten or correct the path"),))
