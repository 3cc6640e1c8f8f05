"""The form of screen 2: its rows, the field that is open, and the edits that come from it.

What is typed counts for the prediction at once and for the form when it is taken: by enter, by moving on, and by every
command (`settle`). Not here: what is shown around the rows (`screen.py`), the file (`files.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual import on
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from engine.api import profiles
from engine.errors import EngineError
from tui.documents.form import Form, Preview, form_fields
from tui.profile.field import FieldRow
from tui.profile.prediction import Prediction
from tui.profile.view import group_of, row_state
from tui.text import safe
from tui.widgets.dialogs import Pick
from tui.widgets.panes import notify

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec

DEBOUNCE_S = 0.15


class FormPane(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The rows of the open profile; the arrows move between them instead of scrolling."""

    class Changed(Message):
        """The form or what it comes to is another one."""

    class FieldClosed(Message):
        """An open field is a row again."""

    def __init__(self) -> None:
        super().__init__(id="form")
        self.form: Form | None = None
        self.advanced = False
        self.prediction = Prediction(self, self.show_rows)
        self._building = False
        self._debounce: Timer | None = None

    @property
    def found(self) -> Preview:
        """What the form comes to, as far as it was checked."""
        return self.prediction.found

    @property
    def rows(self) -> list[FieldRow]:
        """The rows from top to bottom."""
        return list(self.query(FieldRow))

    @property
    def row(self) -> FieldRow | None:
        """The row that has the keyboard, or holds the field that has it."""
        widget: object = self.screen.focused
        while isinstance(widget, Widget) and not isinstance(widget, FieldRow):
            widget = widget.parent
        return widget if isinstance(widget, FieldRow) else None

    @property
    def editor(self) -> FieldRow | None:
        """The row that is a field now."""
        return next((row for row in self.rows if row.editing), None)

    @property
    def ready(self) -> bool:
        """Whether the rows are there, and no command waits for a check."""
        return not self._building and not self.prediction.is_awaited

    def open(self, form: Form | None) -> None:
        """Show another form."""
        if form is not self.form:
            self.form = form
            self.prediction.open(form)
            self._building = True
            self.call_after_refresh(self.rebuild)

    async def rebuild(self, focus: str = "") -> None:
        """Make the rows of the open form anew; `focus`: the setting that gets the keyboard, else the first."""
        try:
            await self._make_rows()
        finally:
            self._building = False
        if self.form is None:
            return
        self.show_rows()
        for row in [row for row in self.rows if row.spec.key == focus] or self.rows[:1]:
            self._to_row(row)
        self.prediction.refresh()

    def rebuild_here(self) -> None:
        """Make the rows anew soon; the keyboard stays on its setting."""
        self.call_later(self.rebuild, self.row.spec.key if self.row else "")

    async def _make_rows(self) -> None:
        form = self.form
        with self.app.batch_update():
            await self.query(FieldRow).remove()
            if form is None:
                return
            await self.mount(*(FieldRow(spec) for spec in _visible_fields(form, self.advanced)))

    def show_rows(self) -> None:
        """Show what the form and the prediction say now, and tell the screen."""
        if self.form is not None:
            self._show_states(self.form)
        self.post_message(self.Changed())

    def _show_states(self, form: Form) -> None:
        group = ""
        for row in self.rows:
            name = group_of(row.spec)
            row.show(row_state(row.spec, form, self.found, "" if name == group else name))
            group = name

    def _to_row(self, row: FieldRow) -> None:
        """Give a row the keyboard; with the first one the form is seen from its top."""
        self.screen.set_focus(row)
        if self.screen.focused is row and row is self.rows[0]:
            self.scroll_home(animate=False)

    def move(self, step: int) -> None:
        """Go `step` rows down."""
        rows = self.rows
        if not rows:
            return
        row = self.row
        index = rows.index(row) if row in rows else 0
        self._to_row(rows[max(0, min(len(rows) - 1, index + step))])

    # Editing

    @on(FieldRow.Typed)
    def _on_typed(self, message: FieldRow.Typed) -> None:
        if message.row.editing:
            self._forget_typed()
            self.prediction.typed = {message.row.spec.key: message.value}
            self._debounce = self.set_timer(DEBOUNCE_S, self.prediction.refresh)

    @on(FieldRow.Left)
    def _on_left(self) -> None:
        if self._forget_typed():
            self.prediction.refresh()

    def _forget_typed(self) -> bool:
        """What is typed no longer counts for the prediction; whether it did."""
        counted, self.prediction.typed = bool(self.prediction.typed), {}
        if self._debounce is not None:
            self._debounce.stop()
        return counted

    @on(FieldRow.Taken)
    def _on_taken(self, message: FieldRow.Taken) -> None:
        if message.row.editing and self._take_typed(message.row):
            self.move(message.step)

    @on(FieldRow.Chosen)
    def _on_chosen(self, message: FieldRow.Chosen) -> None:
        self._edit(message.row, message.value)

    def settle(self) -> bool:
        """Take what was typed into the open field, or say that it cannot be taken."""
        row = self.editor
        if row is None:
            return True
        if row.untouched:
            self._close(row)
            return True
        if self._take_typed(row):
            return True
        notify(self, f"{row.spec.key}: what is typed cannot be taken; esc gives it up", error=True)
        return False

    def give_up(self) -> bool:
        """Close the open field and leave the setting as it is; False when no field is open."""
        row = self.editor
        if row is None:
            return False
        self._close(row)
        return True

    def _take_typed(self, row: FieldRow) -> bool:
        """The form has the value when this returns True; else the row says why it cannot be taken."""
        try:
            value = row.reading()
            if self.form is not None:
                self.form.text({row.spec.key: value})
        except (ValueError, EngineError) as error:
            row.complain(safe(error, 400))
            return False
        self._close(row)
        self._edit(row, value)
        return True

    def _close(self, row: FieldRow) -> None:
        row.close()
        if self._forget_typed():
            self.prediction.refresh()
        self.post_message(self.FieldClosed())

    def _edit(self, row: FieldRow, value: Any) -> None:
        if self.form is None:
            return
        given = self.form.given(row.spec.key)
        untouched = given is None and value == row.spec.default
        if not untouched and self.form.set(row.spec.key, value):
            self._edited()

    def take(self, key: str, value: Any) -> None:
        """Take a value that was chosen elsewhere, as an edit that `undo` takes back; its row gets the keyboard."""
        if self.form is not None and self.form.set(key, value):
            self._edited()
            self.go_to(key)
            notify(self, f"{key} = {value}; u takes it back")

    def _edited(self) -> None:
        self.show_rows()
        self.prediction.refresh()

    @on(FieldRow.Pick)
    def _on_pick(self, message: FieldRow.Pick) -> None:
        row = message.row
        choices = row.spec.choices
        now = "auto" if row.state.source.startswith("auto") else row.state.value

        def take(index: int | None) -> None:
            if index is not None:
                self._edit(row, choices[index])

        index = choices.index(now) if now in choices else 0
        pick = Pick(row.spec.key, [Content(choice) for choice in choices], index, safe(row.spec.description, 300))
        self.app.push_screen(pick, take)

    # Commands

    def undo(self) -> None:
        """Take the last edit back and go to its field."""
        if self.form is not None:
            self._went_to(self.form.undo)

    def redo(self) -> None:
        """Make the edit again that was taken back."""
        if self.form is not None:
            self._went_to(self.form.redo)

    def _went_to(self, step: Callable[[], str]) -> None:
        key = step()
        self._edited()
        for row in [row for row in self.rows if row.spec.key == key]:
            self._to_row(row)

    def set_auto(self) -> None:
        """Leave the setting out: automatic, or its default."""
        row, form = self.row, self.form
        if row is None or form is None:
            return
        if row.spec.required:
            notify(self, f"{row.spec.key} has to be given")
            return
        if form.set(row.spec.key, None):
            self._edited()
        if not row.spec.auto:
            notify(self, f"{row.spec.key} has no auto: back to its default")

    def toggle_advanced(self) -> None:
        """Show or hide advanced settings."""
        self.advanced = not self.advanced
        self.rebuild_here()
        notify(self, "advanced settings shown" if self.advanced else "advanced settings hidden")

    def go_to(self, key: str) -> bool:
        """Go to the field of a setting, or of the first one below it; a hidden one is shown. False without a field."""
        for row in self.rows:
            if key and (row.spec.key == key or row.spec.key.startswith(key + ".")):
                self._to_row(row)
                return True
        hidden = not self.advanced and any(spec.key == key for spec in profiles.profile_fields())
        if hidden:
            self.advanced = True
            self.call_later(self.rebuild, key)
        return hidden


def _visible_fields(form: Form, advanced: bool) -> list[FieldSpec]:
    """The settings that get a row: advanced ones only when they are wanted or given."""
    return [spec for spec in form_fields(form) if advanced or not spec.advanced or form.given(spec.key) is not None]
