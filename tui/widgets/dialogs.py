"""Small questions over a screen: confirm, type one line, pick one of several, read a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from tui.text import Part, line
from tui.widgets.field_said import FieldSaid
from tui.widgets.lines import Line, hint
from tui.widgets.modal import Modal as Modal
from tui.widgets.modal import drop_stale as drop_stale
from tui.widgets.reader import Reader as Reader

Check = Callable[[str], str]
"""Gives the reason why a typed line cannot be taken, or an empty string."""


WIDE_CELLS, WIDE_SHARE, EDGE_CELLS = 100, 0.94, 5
"""Of `.box.wide` in the style sheet: its width, its most of the screen's; what border, padding and scrollbar take."""


class Confirm(Modal[bool]):
    """Ask before something is done. Closes with True or False.

    `final`: it cannot be undone, so only `y` is yes; enter is too easily pressed.
    """

    BINDINGS: ClassVar = [
        ("y", "answer(True)", "yes"),
        ("enter", "enter", "yes"),
        ("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, text: str, action: str, *, final: bool = False) -> None:
        super().__init__()
        self._text, self._action, self._final = text, action, final

    def compose(self) -> ComposeResult:
        """The text and the two answers."""
        yes: list[Part] = hint("y") if self._final else [*hint("y"), " or ", *hint("enter")]
        with Vertical(classes="box"):
            yield Line(Content(self._text))
            no = [*hint("n"), " or ", *hint("esc", "escape"), " no"]
            yield Line(line(*yes, f" {self._action}   ", *no), classes="keys")

    def action_enter(self) -> None:
        """Yes, unless what is done is final."""
        if not self._final:
            self.dismiss(True)

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class Ask(Modal[str | None]):
    """Ask for one line of text. Closes with it, or None when it was given up.

    `field`: one that checks what is typed itself, in the place of a plain one with `check`.
    """

    BINDINGS: ClassVar = [("escape", "give_up", "cancel")]

    def __init__(
        self, title: str, note: str = "", value: str = "", check: Check | None = None, field: Input | None = None
    ) -> None:
        super().__init__()
        self._title, self._note, self._check = title, note, check
        self._field = field if field is not None else Input(value, compact=True)

    @property
    def ready(self) -> bool:
        """Whether the field has answered what it was asked; keys typed ahead wait until then."""
        return not getattr(self._field, "is_busy", False)

    def compose(self) -> ComposeResult:
        """Title, field, and a line that first explains and then says what is wrong."""
        with Vertical(classes="box"):
            yield Line(Content.styled(self._title, "bold"))
            self._field.cursor_blink = False
            yield self._field
            yield Line(Content.styled(self._note, "dim"), id="note")
            yield Line(line(*hint("enter"), " take   ", *hint("esc", "escape"), " cancel"), classes="keys")

    def on_mount(self) -> None:
        """Type at once."""
        self.set_focus(self.query_one(Input))

    def on_input_changed(self, event: Input.Changed) -> None:
        """What was said is about what stood there before."""
        event.stop()
        self.query_one("#note", Line).show(Content.styled(self._note, "dim"), wraps=True)

    def on_field_said(self, message: FieldSaid) -> None:
        """Say what the field says, in the place of the note."""
        message.stop()
        style = "$error" if message.is_problem else "dim"
        self.query_one("#note", Line).show(Content.styled(message.text or self._note, style), wraps=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the line, or say why not."""
        event.stop()
        problem = self._check(event.value.strip()) if self._check else ""
        if problem:
            self.query_one("#note", Line).show(Content.styled(problem, "$error"), wraps=True)
        else:
            self.dismiss(event.value.strip())

    def action_give_up(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class Pick(Modal[int | None]):
    """Pick one of several lines. Closes with its number, or None."""

    BINDINGS: ClassVar = [("escape,q", "give_up", "cancel")]

    @staticmethod
    def wide_room(columns: int) -> int:
        """Cells that a choice may fill on one line of a wide box where the screen has so many columns."""
        return min(WIDE_CELLS, int(columns * WIDE_SHARE)) - EDGE_CELLS

    def __init__(
        self, title: str, choices: Sequence[Content], highlighted: int = 0, note: str = "", *, wide: bool = False
    ) -> None:
        super().__init__()
        self._wide = wide
        self._title, self._choices, self._highlighted, self._note = title, choices, highlighted, note

    def compose(self) -> ComposeResult:
        """Title and list."""
        with Vertical(classes="box wide" if self._wide else "box"):
            yield Line(Content.styled(self._title, "bold"))
            yield OptionList(*(Option(choice) for choice in self._choices), compact=True)
            if self._note:
                yield Line(Content.styled(self._note, "dim"))
            yield Line(line(*hint("enter"), " take   ", *hint("esc", "escape"), " cancel"), classes="keys")

    def on_mount(self) -> None:
        """Start on the present value."""
        options = self.query_one(OptionList)
        options.highlighted = self._highlighted if self._choices else None
        self.set_focus(options)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the number of the line."""
        event.stop()
        self.dismiss(event.option_index)

    def action_give_up(self) -> None:
        """Close without an answer."""
        self.dismiss(None)
