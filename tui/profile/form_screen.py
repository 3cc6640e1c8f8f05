"""The form of screen 2: its rows, the field that is open, and the prediction for what stands there.

What is typed counts for the prediction at once and for the form when it is taken: by enter, by moving on, and by every
command (`settle_editor`). Not here: what is shown around the rows and the commands (`profile.py` builds on it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from textual import on
from textual.containers import VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import OptionList

from engine.api import fit, profiles
from engine.api.fit import Machine
from engine.errors import EngineError, Problem
from tui.background import Lane
from tui.documents.form import Form, Preview, form_fields, preview
from tui.frame.screen import DeckScreen
from tui.profile.field import FieldRow
from tui.text import safe
from tui.widgets.dialogs import Pick

DEBOUNCE_S = 0.15


class Fields(VerticalScroll, can_focus=False, inherit_bindings=False):
    """Holds the rows; the arrows move between them instead of scrolling."""


class FormScreen(DeckScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Preview()
        self.advanced = False
        self._form: Form | None = None
        self._lane = Lane(self, "resolve")
        self._typed: dict[str, Any] = {}
        self._asked, self._found_for = "", ""
        """The texts that were last given to be checked, and that `found` is about."""
        self._then: Callable[[], None] | None = None
        self._building = False
        self._debounce: Timer | None = None

    def _show(self) -> None:
        """Everything; the screen draws it."""
        raise NotImplementedError

    @property
    def rows(self) -> list[FieldRow]:
        """The rows from top to bottom."""
        return list(self.query(FieldRow))

    @property
    def row(self) -> FieldRow | None:
        """The row that has the keyboard, or holds the field that has it."""
        widget = self.focused
        while widget is not None and not isinstance(widget, FieldRow):
            widget = widget.parent if widget.parent is not self else None  # type: ignore[assignment]
        return widget

    @property
    def editor(self) -> FieldRow | None:
        """The row that is a field now."""
        return next((row for row in self.rows if row.editing), None)

    @property
    def ready(self) -> bool:
        """The rows are there, and no command waits for a check."""
        return not self._building and self._then is None

    def set_focus(self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False) -> None:
        """The keyboard leaves an open field only when what was typed there could be taken."""
        row = self.editor if widget is not None else None
        if widget is None or row is None or row in widget.ancestors_with_self or self.settle_editor():
            super().set_focus(widget, scroll_visible, from_app_focus)

    async def _build(self, focus: str = "") -> None:
        """Make the rows of the open form."""
        try:
            await self._make_rows()
        finally:
            self._building = False
        if self._form is None:
            return
        self._show()
        rows = self.rows
        for row in [row for row in rows if row.spec.key == focus] or rows[:1]:
            self._to_row(row)
        self._resolve()

    async def _make_rows(self) -> None:
        holder = self.query_one("#form")
        form = self._form
        with self.app.batch_update():
            await holder.query(FieldRow).remove()
            if form is None:
                return
            shown = [
                spec
                for spec in form_fields(form)
                if self.advanced or not spec.advanced or form.given(spec.key) is not None
            ]
            await holder.mount(*(FieldRow(spec) for spec in shown))

    def _to_row(self, row: FieldRow) -> None:
        """Give a row the keyboard; with the first one the form is seen from its top."""
        self.set_focus(row)
        if self.focused is row and row is self.rows[0]:
            self.query_one("#form", Fields).scroll_home(animate=False)

    # The prediction

    def _resolve(self) -> None:
        form = self._form
        if form is None:
            return
        try:
            self._asked = text = form.text(self._typed)
        except EngineError as error:
            self._resolved("", Preview(error.problems or (Problem(error.message, error.hint),)))
            return
        machine = self.deck.machine
        self._lane.submit(partial(_preview, text, form, machine), partial(self._resolved, text), self._failed)

    def _resolved(self, text: str, result: Preview) -> None:
        self.found, self._found_for = result, text
        self._show()
        if self._then is not None and text in ("", self._text_now()):
            act, self._then = self._then, None
            act()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            raise error
        self._then = None
        self.say(safe(error, 400), error=True)
        if error.problems:
            self._resolved(self._text_now(), Preview(error.problems))

    def _text_now(self) -> str:
        """The profile's text with what was taken; empty when there is none."""
        try:
            return self._form.text() if self._form is not None else ""
        except EngineError:
            return ""

    def _when_checked(self, act: Callable[[], None]) -> None:
        """Do `act` when `found` is about the form as it is now: at once, or after the check that is under way."""
        now = self._text_now()
        if now in ("", self._found_for):
            act()
            return
        self._then = act
        if self._asked != now or not self._lane.busy:
            self._resolve()

    # Editing

    @on(FieldRow.Typed)
    def _on_typed(self, message: FieldRow.Typed) -> None:
        if message.row.editing:
            self._forget_typed()
            self._typed = {message.row.spec.key: message.value}
            self._debounce = self.set_timer(DEBOUNCE_S, self._resolve)

    @on(FieldRow.Left)
    def _on_left(self) -> None:
        if self._forget_typed():
            self._resolve()

    def _forget_typed(self) -> bool:
        """What is typed no longer counts for the prediction; whether it did."""
        counted, self._typed = bool(self._typed), {}
        if self._debounce is not None:
            self._debounce.stop()
        return counted

    @on(FieldRow.Taken)
    def _on_taken(self, message: FieldRow.Taken) -> None:
        if message.row.editing and self._take_typed(message.row):
            self.action_move(message.step)

    @on(FieldRow.Chosen)
    def _on_chosen(self, message: FieldRow.Chosen) -> None:
        self._edit(message.row, message.value)

    def settle_editor(self) -> bool:
        """Take what was typed into the open field, or say that it cannot be taken."""
        row = self.editor
        if row is None:
            return True
        if row.untouched:
            self._close(row)
            return True
        taken = self._take_typed(row)
        if not taken:
            self.say(f"{row.spec.key}: what is typed cannot be taken; esc gives it up", error=True)
        return taken

    def _take_typed(self, row: FieldRow) -> bool:
        """The form has the value when this returns True; else the row says why it cannot be taken."""
        try:
            value = row.reading()
            if self._form is not None:
                self._form.text({row.spec.key: value})
        except (ValueError, EngineError) as error:
            row.complain(safe(error, 400))
            return False
        self._close(row)
        self._edit(row, value)
        return True

    def _close(self, row: FieldRow) -> None:
        row.close()
        if self._forget_typed():
            self._resolve()

    def _edit(self, row: FieldRow, value: Any) -> None:
        if self._form is None:
            return
        given = self._form.given(row.spec.key)
        untouched = given is None and value == row.spec.default
        if untouched or not self._form.set(row.spec.key, value):
            return
        self._show()
        self._resolve()

    @on(FieldRow.Pick)
    def _on_pick(self, message: FieldRow.Pick) -> None:
        row = message.row
        choices = row.spec.choices
        now = "auto" if row.state.source.startswith("auto") else row.state.value

        def take(index: int | None) -> None:
            if index is not None:
                self._edit(row, choices[index])

        index = choices.index(now) if now in choices else 0
        lines = [Content(choice) for choice in choices]
        self.app.push_screen(Pick(row.spec.key, lines, index, safe(row.spec.description, 300)), take)

    def action_move(self, step: int) -> None:
        """Go `step` rows down."""
        rows = self.rows
        if not rows:
            return
        row = self.row
        index = rows.index(row) if row in rows else 0
        self._to_row(rows[max(0, min(len(rows) - 1, index + step))])

    @on(OptionList.OptionSelected, "#problems")
    def _jump(self, event: OptionList.OptionSelected) -> None:
        if self.settle_editor():
            self._go_to(self.found.findings[event.option_index])

    def _go_to(self, problem: Problem) -> None:
        for row in self.rows:
            if problem.key and (row.spec.key == problem.key or row.spec.key.startswith(problem.key + ".")):
                self._to_row(row)
                return
        if not self.advanced and any(spec.key == problem.key for spec in profiles.profile_fields()):
            self.advanced = True
            self.call_later(self._build, problem.key)
            return
        self.say(f"no field for this one: edit {self._form.path.name if self._form else 'the file'}, {problem.where}")

    def step_back(self) -> bool:
        """Give up what is typed into an open field."""
        row = self.editor
        if row is None:
            return False
        self._close(row)
        return True


def _preview(text: str, form: Form, machine: Machine | None) -> Preview:
    try:
        return preview(text, form.path, machine or fit.probe_machine(processes=False))
    except OSError as error:  # a path that is too long, a folder that may not be read
        return Preview((Problem(safe(error.strerror or error, 200), "shorten or correct the path"),))
