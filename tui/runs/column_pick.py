"""Choosing columns of the list, or the one to group by: typing narrows the list down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList

from tui.text import Part, fit, line, safe
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Line, hint
from tui.widgets.rows import Row, Rows


class ColumnPick(Modal[tuple[str, ...] | None]):
    """Columns with what they are. Closes with one; with `several`, enter marks and esc closes with the marked."""

    BINDINGS: ClassVar = [
        ("escape", "close", "close"),
        ("down", "step(1)", "down"),
        ("up", "step(-1)", "up"),
        ("pagedown", "step(8)", "down"),
        ("pageup", "step(-8)", "up"),
    ]

    def __init__(self, title: str, known: Sequence[tuple[str, str]], chosen: Sequence[str], *, several: bool) -> None:
        super().__init__()
        self._title, self._known, self._several = title, list(known), several
        self._chosen = dict.fromkeys(chosen)

    def compose(self) -> ComposeResult:
        """Title, the field that narrows down, the columns, keys."""
        with Vertical(classes="box"):
            yield Line(Content.styled(self._title, "bold"))
            field = Input(placeholder="words of a name; enter " + self._word, compact=True)
            field.cursor_blink = False
            yield field
            yield Rows(id="column-rows")
            close: list[Part] = [*hint("esc", "escape"), " done" if self._several else " cancel"]
            yield Line(line(*hint("enter"), f" {self._word}   ", *close), classes="keys")

    @property
    def _word(self) -> str:
        return "shows or hides" if self._several else "takes"

    def on_mount(self) -> None:
        """Type at once; the arrows move in the list."""
        self.set_focus(self.query_one(Input))
        self._fill("")

    def _fill(self, typed: str) -> None:
        words = typed.lower().split()
        found = [pair for pair in self._known if all(word in " ".join(pair).lower() for word in words)]
        rows = self.query_one(Rows)
        rows.styles.height = max(1, min(len(found), int(self.app.size.height * 0.92) - 8))
        rows.set_rows([Row(key, partial(_row, key, text, key in self._chosen)) for key, text in found])

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.value)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _take(self, event: Input.Submitted | OptionList.OptionSelected) -> None:
        event.stop()
        current = self.query_one(Rows).current
        if current is None:
            return
        if not self._several:
            self.dismiss((current.key,))
        elif current.key in self._chosen:
            del self._chosen[current.key]
        else:
            self._chosen[current.key] = None
        self._fill(self.query_one(Input).value)

    def action_step(self, step: int) -> None:
        """Move in the list without leaving the field."""
        rows = self.query_one(Rows)
        if rows.rows:
            rows.highlighted = max(0, min(len(rows.rows) - 1, (rows.highlighted or 0) + step))

    def action_close(self) -> None:
        """Close; what was marked holds."""
        self.dismiss(tuple(self._chosen) if self._several else None)


def _row(key: str, text: str, chosen: bool, width: int, current: bool) -> Content:
    cells = max(10, width - 4)
    name = min(cells * 2 // 3, 40)
    drawn = line(
        ("> " if current else "  ", "bold"),
        ("✓ " if chosen else "  ", "bold $accent"),
        fit(safe(key, 80), name - 1) + " ",
        (fit(text, cells - name), "dim"),
    )
    return Content(drawn.plain) if current else drawn
