"""The line above the form in which words are typed to find settings, and how many they find."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input

from tui.profile.form_filter import FILTER_HINT, Filter, parse_filter
from tui.profile.form_pane import FormPane
from tui.text import line, safe
from tui.widgets.lines import Line


class FilterBar(Horizontal):
    """Filters the form as one types. Seen while a filter is typed or holds."""

    def __init__(self, form: FormPane) -> None:
        super().__init__(id="find")
        self._form = form
        self._before = ""
        """The setting that had the keyboard when the filter was opened."""

    def compose(self) -> ComposeResult:
        """The field and the count."""
        field = Input(placeholder=FILTER_HINT, compact=True, id="find-words")
        field.cursor_blink = False
        yield field
        yield Line(id="find-count")

    def on_mount(self) -> None:
        """Not there until it is asked for."""
        self.display = False

    @property
    def has_keyboard(self) -> bool:
        """Whether words are being typed."""
        return self._field.has_focus

    @property
    def _field(self) -> Input:
        return self.query_one(Input)

    def open(self) -> None:
        """Type words to filter by."""
        row = self._form.row
        self._before = row.spec.key if row is not None else ""
        self.display = True
        self.screen.set_focus(self._field)

    def close(self) -> bool:
        """Show all settings again, the keyboard on the one that has it; False when there is no filter."""
        if not self.display:
            return False
        row = self._form.row
        key = row.spec.key if row is not None else self._before
        self._leave()
        self._form.filter_by(Filter())
        if not self._form.go_to(key):
            self._form.move(0)
        return True

    def _leave(self) -> None:
        with self.prevent(Input.Changed):
            self._field.value = ""
        self.display = False

    def show(self) -> None:
        """Say how many settings are found; go when the form gave the filter up."""
        asked = self._form.outline.asked
        if self.display and not asked and not self.has_keyboard:
            self._leave()
        found, count = self._form.counts
        text = asked.problem or (f"{found} of {count}" if asked else f"{count} settings")
        self.query_one(Line).show(line((safe(text), "$warning" if asked.problem or not found else "dim")), wraps=True)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._form.filter_by(parse_filter(event.value))

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self._to_rows()

    def on_key(self, event: events.Key) -> None:
        """Down goes to what was found, as enter does."""
        if event.key == "down" and self.has_keyboard:
            event.stop()
            event.prevent_default()
            self._to_rows()

    def _to_rows(self) -> None:
        """The filter holds; the keyboard goes to the setting that it was on, or to the first that was found."""
        asked = self._form.outline.asked
        if not asked:
            self.close()
        elif self._form.rows:
            seen = {row.spec.key for row in self._form.rows}
            self._form.go_to(self._before if self._before in seen else self._form.rows[0].spec.key)
