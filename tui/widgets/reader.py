"""A long text that can be searched: `/` finds words, `n` and `N` go from place to place."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content, Span
from textual.widgets import Input

from tui.text import Part, line
from tui.widgets.lines import Line, hint
from tui.widgets.modal import Modal


def places(text: str, words: str) -> list[int]:
    """Where `words` begin in `text`, whatever their case."""
    return [match.start() for match in re.finditer(re.escape(words), text, re.IGNORECASE)] if words else []


def marked(text: Content, found: list[int], cells: int, current: int) -> Content:
    """`text` with the places found underlined, the current one reversed."""
    spans = [
        Span(at, at + cells, "bold reverse" if index == current else "bold underline") for index, at in enumerate(found)
    ]
    return text.add_spans(spans) if spans else text


class Reader(Modal[None]):
    """Show a text that may be longer than the screen, and find words in it."""

    BINDINGS: ClassVar = [
        ("escape", "back", "close"),
        ("q,enter", "close", "close"),
        ("slash", "find", "find"),
        ("n", "go(1)", "next"),
        ("N", "go(-1)", "previous"),
    ]

    def __init__(self, title: str, text: Content) -> None:
        super().__init__()
        self._title, self._text = title, text
        self._words = ""
        self._found: list[int] = []
        self._current = 0

    def compose(self) -> ComposeResult:
        """Title, the field for words, the text, keys."""
        tall = self._text.plain.count("\n") > self.app.size.height * 0.7
        with Vertical(classes="box tall" if tall else "box"):
            yield Line(Content.styled(self._title, "bold"))
            field = Input(placeholder="words to find; enter keeps them, esc shows all", compact=True, id="find")
            field.cursor_blink = False
            yield field
            with VerticalScroll():
                yield Line(self._text, id="text")
            yield Line(id="search-keys", classes="keys")

    def on_mount(self) -> None:
        """Arrows scroll at once."""
        self.query_one("#find").display = False
        self.set_focus(self.query_one(VerticalScroll))
        self._show()

    def action_find(self) -> None:
        """Type words."""
        field = self.query_one("#find", Input)
        field.display = True
        self.set_focus(field)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._words, self._current = event.value.strip(), 0
        self._found = places(self._text.plain, self._words)
        self._show()

    @on(Input.Submitted)
    def _taken(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one("#find").display = bool(self._words)
        self.set_focus(self.query_one(VerticalScroll))

    def action_go(self, step: int) -> None:
        """Go to the next place, round and round."""
        if self._found:
            self._current = (self._current + step) % len(self._found)
            self._show()

    def action_back(self) -> None:
        """Show the text without marks, or close."""
        field = self.query_one("#find", Input)
        if not (field.display or self._words):
            self.action_close()
            return
        field.value, field.display = "", False
        self.set_focus(self.query_one(VerticalScroll))

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)

    def _show(self) -> None:
        shown = marked(self._text, self._found, len(self._words), self._current)
        text = self.query_one("#text", Line)
        text.show(shown)
        self.query_one("#search-keys", Line).show(line(*self._keys()))
        if self._found:
            self.call_after_refresh(self._see_current, text)

    def _keys(self) -> list[Part]:
        parts: list[Part] = [*hint("esc", "escape"), " close   ", *hint("/", "slash"), " find"]
        if self._words:
            count = f"{self._current + 1} of {len(self._found)}" if self._found else "nothing found"
            parts += ["   ", *hint("n"), " ", *hint("N"), f" {count}"]
        return parts

    def _see_current(self, text: Line) -> None:
        """Scroll until the current place is in the middle, as far as there is text."""
        before = self._text[: self._found[self._current]] if self._found else Content("")
        rows = before.wrap(max(1, text.size.width)) if before.plain else []
        scroll = self.query_one(VerticalScroll)
        scroll.scroll_to(y=max(0, len(rows) - 1 - scroll.size.height // 2), animate=False)
