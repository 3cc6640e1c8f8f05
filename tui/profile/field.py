"""One setting of the form: a row that reads like a table and becomes a field when it is edited.

Posts `Typed` while somebody types and `Taken` when the text shall be taken: the screen does that, and so it does before
any command (`reading`, `complain`, `close`). Not here: what a value means (`profileview.py`), choosing from a list (the
screen does that).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from engine.api import profiles
from tui.documents.completion import wanted_by
from tui.frame.path_field import PathField
from tui.profile.view import INDENT_CELLS, LABEL_CELLS, RowState, row_content
from tui.text import safe
from tui.widgets.field_said import FieldSaid

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec


class FieldRow(Widget, can_focus=True):
    """A setting of the form: label, value, source, and the open field."""

    BINDINGS: ClassVar = [
        Binding("enter", "edit", "edit", show=False),
        Binding("space,right,l", "cycle(1)", "next value", show=False),
        Binding("left,h", "cycle(-1)", "previous value", show=False),
    ]

    class Typed(Message):
        """A text that could be taken was typed; not taken yet. A bare `Left` follows one that could not."""

        def __init__(self, row: FieldRow, value: Any) -> None:
            super().__init__()
            self.row, self.value = row, value

    class Taken(Message):
        """What was typed shall be taken. `step`: where to go then, in rows."""

        def __init__(self, row: FieldRow, step: int) -> None:
            super().__init__()
            self.row, self.step = row, step

    class Chosen(Message):
        """Another value of those that there are was chosen."""

        def __init__(self, row: FieldRow, value: Any) -> None:
            super().__init__()
            self.row, self.value = row, value

    class Left(Message):
        """What was typed does not count: it was given up, or cannot be read."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    class Pick(Message):
        """A choice wants its list of values."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, spec: FieldSpec, base: Path) -> None:
        super().__init__()
        self.spec = spec
        self._paths = wanted_by(spec.key, base)
        """What a path in it shall lead to; None: it is no path."""
        self.state = RowState("", "", "")
        self._complaint, self._told = "", ""
        self._field: Input | None = None
        self._before = ""

    def show(self, state: RowState) -> None:
        """Replace what the row shows."""
        if state != self.state:
            other_height = (state.message, state.remedy) != (self.state.message, self.state.remedy)
            self.state = state
            self.refresh(layout=other_height)

    @property
    def editing(self) -> bool:
        """Whether the row is a field now."""
        return self._field is not None

    def render(self) -> Content:
        """The row, with what is wrong below it."""
        return row_content(self._shown, self.content_size.width, self.has_focus or self.editing)

    @property
    def completes(self) -> bool:
        """Whether it is an open field for a path."""
        return isinstance(self._field, PathField)

    @property
    def is_busy(self) -> bool:
        """Whether keys shall wait for what the field asked."""
        return isinstance(self._field, PathField) and self._field.is_busy

    @property
    def _shown(self) -> RowState:
        state = self.state
        if self._complaint:
            return RowState(state.label, "", "", message=self._complaint)
        return RowState(state.label, "", "", message=self._told, severity="dim") if self._told else state

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """More than one line when there is something to say."""
        return row_content(self._shown, width, self.has_focus or self.editing).plain.count("\n") + 1

    def watch_has_focus(self, has_focus: bool) -> None:
        """What is wrong takes more room where the keyboard is."""
        super().watch_has_focus(has_focus)
        if self.state.message:
            self.refresh(layout=True)

    def action_edit(self) -> None:
        """Become a field; on and off just flips."""
        if self.spec.kind == "bool":
            self.action_cycle(1)
        elif self.spec.kind == "choice":
            self.post_message(self.Pick(self))
        elif not self.editing:
            text = "" if self.state.value == "–" else self.state.value
            self._before = text
            self._field = PathField(text, self._paths) if self._paths else Input(text, compact=True)
            self._field.cursor_blink = False
            self._field.styles.margin = (0, 0, 0, INDENT_CELLS + LABEL_CELLS + 1)
            self._field.styles.width = max(16, self.content_size.width - INDENT_CELLS - LABEL_CELLS - 1)
            self.mount(self._field)
            self.screen.set_focus(self._field)

    def action_cycle(self, step: int) -> None:
        """The next value of a choice, or the other of two."""
        if self.spec.kind == "bool":
            self.post_message(self.Chosen(self, self.state.value != "true"))
        elif self.spec.kind == "choice":
            choices = self.spec.choices
            now = "auto" if self.state.source.startswith("auto") else self.state.value
            index = choices.index(now) if now in choices else -1
            self.post_message(self.Chosen(self, choices[(index + step) % len(choices)]))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input is not self._field:
            return  # it was closed meanwhile
        try:
            value = profiles.typed_value(self.spec, event.value)
        except ValueError as error:
            self.complain(_words(error))
            self.post_message(self.Left(self))
            return
        self.complain("")
        self.post_message(self.Typed(self, value))

    @on(FieldSaid)
    def _on_told(self, message: FieldSaid) -> None:
        message.stop()
        if self.editing:
            self._say("" if message.is_problem else message.text, message.text if message.is_problem else "")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Taken(self, 1))

    @property
    def untouched(self) -> bool:
        """Whether the field holds what it held when it was opened."""
        return self._field is None or self._field.value == self._before

    def reading(self) -> Any:
        """What the text in the open field means. Raises ValueError with words for a person."""
        try:
            return profiles.typed_value(self.spec, self._field.value if self._field is not None else "")
        except ValueError as error:
            raise ValueError(_words(error)) from None

    def on_key(self, event: events.Key) -> None:
        """Keys that end an edit: escape gives up, up and down take and go on."""
        if self.editing and event.key in ("escape", "up", "down"):
            event.stop()
            event.prevent_default()
            if event.key == "escape":
                self.close()
                self.post_message(self.Left(self))
            else:
                self.post_message(self.Taken(self, 1 if event.key == "down" else -1))

    def close(self) -> None:
        """Be a row again, with the keyboard if the field had it."""
        field, self._field = self._field, None
        if field is not None:
            if self.screen.focused in (field, None):
                self.screen.set_focus(self)
            field.remove()
        self.complain("")

    def complain(self, text: str) -> None:
        """Say below the row why the text cannot be taken; an empty text takes that back."""
        self._say("", text)

    def _say(self, told: str, complaint: str) -> None:
        if (told, complaint) != (self._told, self._complaint):
            self._told, self._complaint = told, complaint
            self.refresh(layout=True)
            self.call_after_refresh(self.scroll_visible, animate=False)


def _words(error: ValueError) -> str:
    """What is wrong, without the value: that stands in the field above."""
    return safe(error).partition("; got '")[0]
