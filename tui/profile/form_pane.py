"""The form of screen 2: its rows, the field that is open, and the edits that come from it.

What is typed counts for the prediction at once and for the form when it is taken: by enter, by moving on, and by every
command (`settle`). Not here: what is shown around the rows (`screen.py`), the file (`files.py`), the order of rows
(`outline.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual import on
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer

from engine.errors import EngineError
from tui.documents.form import Form, Preview, form_fields
from tui.profile.blocks import Blocks, Stop
from tui.profile.cursor import Cursor
from tui.profile.field import FieldRow
from tui.profile.form_filter import Filter
from tui.profile.outline import Outline
from tui.profile.prediction import Prediction
from tui.profile.section_row import SectionRow
from tui.text import safe
from tui.widgets.dialogs import Pick
from tui.widgets.panes import notify

DEBOUNCE_S = 0.15
MANY = 999
"""More rows than a form has."""


class FormPane(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The rows of the open profile; the arrows move between them instead of scrolling."""

    class Changed(Message):
        """The form or what it comes to is another one."""

    class FieldClosed(Message):
        """An open field is a row again."""

    def __init__(self) -> None:
        super().__init__(id="form")
        self.form: Form | None = None
        self.cursor = Cursor(self, lambda: self.post_message(self.Changed()))
        self.prediction = Prediction(self, self.show_rows)
        self._building = False
        self._sought = ""
        """The setting to go to once the rows are there."""
        self._debounce: Timer | None = None

    @property
    def outline(self) -> Outline:
        """What of the form a person wants to see."""
        return self.cursor.outline

    @property
    def found(self) -> Preview:
        """What the form comes to, as far as it was checked."""
        return self.prediction.found

    @property
    def rows(self) -> list[FieldRow]:
        """The settings that are seen, from top to bottom."""
        return [row for row in self.cursor.blocks.rows() if row.display]

    @property
    def counts(self) -> tuple[int, int]:
        """How many settings are seen, and of how many."""
        return len(self.rows), len(list(self.cursor.blocks.rows()))

    @property
    def stop(self) -> Stop | None:
        """The row or the heading that has the keyboard, or holds the field that has it."""
        return self.cursor.stop

    @property
    def row(self) -> FieldRow | None:
        """The setting that has the keyboard."""
        stop = self.stop
        return stop if isinstance(stop, FieldRow) else None

    @property
    def editor(self) -> FieldRow | None:
        """The row that is a field now."""
        return next((row for row in self.cursor.blocks.rows() if row.editing), None)

    @property
    def ready(self) -> bool:
        """Whether the rows are there, and nothing is waited for: a check, or what a folder holds."""
        editor = self.editor
        return not self._building and not self.prediction.is_awaited and not (editor is not None and editor.is_busy)

    def open(self, form: Form | None) -> None:
        """Show another form."""
        if form is not self.form:
            self.form = form
            self.outline.asked = Filter()
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
        self.cursor.arrange()
        focus, self._sought = self._sought or focus, ""
        if not (focus and self.go_to(focus)):
            self.move(-MANY)
        self.prediction.refresh()

    def rebuild_here(self) -> None:
        """Make the rows anew soon; the keyboard stays on its setting."""
        self.call_later(self.rebuild, self.row.spec.key if self.row else "")

    async def _make_rows(self) -> None:
        form = self.form
        with self.app.batch_update():
            await self.remove_children()
            self.cursor.hold(Blocks.of(form_fields(form), form.path.parent) if form is not None else Blocks(), form)
            await self.mount(*self.cursor.blocks.widgets())

    def show_rows(self) -> None:
        """Show what the form and the prediction say now, and tell the screen."""
        if self.form is not None:
            self.cursor.blocks.show(self.form, self.found)
        self.post_message(self.Changed())

    def move(self, step: int) -> None:
        """Go `step` rows down."""
        self.cursor.move(step)

    # Sections and the filter

    @on(SectionRow.Folded)
    def _on_folded(self, message: SectionRow.Folded) -> None:
        if not self.cursor.fold(message.title, message.folded):
            notify(self, "a filter shows what it finds: esc clears it, then sections fold")

    def toggle_sections(self) -> None:
        """Open all sections, or fold them when all are open."""
        self.cursor.fold_all()

    def filter_by(self, asked: Filter) -> None:
        """Show only the settings that are asked for; all, for an empty filter. An open field stays."""
        self.cursor.filter_by(asked)

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
        notify(self, f"what is typed cannot be taken: {row.spec.key}; esc gives it up", error=True)
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
        self.go_to(key)

    def set_auto(self) -> None:
        """Leave the setting out: automatic, or its default."""
        row, form = self.row, self.form
        if row is None or form is None:
            notify(self, "go to a setting first")
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
        shown = self.cursor.toggle_advanced()
        notify(self, f"advanced settings {'shown in open sections' if shown else 'hidden'}")

    def go_to(self, key: str) -> bool:
        """Go to the field of a setting, or of the first one below it; a hidden one is shown. False without a field."""
        return self.cursor.go_to(key)

    def seek(self, key: str) -> None:
        """Go to the field of a setting, at once or when the rows are there."""
        if self._building or not self.go_to(key):
            self._sought = key
