"""The key bar: the last line of every screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from tui.frame.commands import field_key_label, key_label
from tui.frame.deck import deck_of

FIELD_WORDS = ("take", "give up")
"""What enter and escape do in a field that has no words of its own."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key of the bar and what it does; `action`: what a click on it does."""

    key: str
    label: str
    action: str
    possible: bool = True


class KeyBar(Widget):
    """The last line: what the hands can do here, `?` first, never more than fits.

    While a field has the keyboard, or a question stands over the screen, only keys that work then.
    """

    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; width: 1fr; padding: 0 1; }"
    OVER: ClassVar = (Item("esc", "close", "app.simulate_key('escape')"), Item("^q", "quit", "app.quit"))
    """The bar under a question."""

    def __init__(self, screen: str, field_words: Mapping[str, tuple[str, str]]) -> None:
        super().__init__()
        self._screen, self._field_words = screen, field_words
        self._places: list[tuple[int, int, str]] = []

    def _items(self) -> Iterator[Item]:
        deck, focused = deck_of(self), self.screen.focused
        state = deck.deck
        if self.app.screen is not self.screen:
            yield from self.OVER
        elif isinstance(focused, Input):
            yield from self._field_items(self._field_words.get(focused.id or "", FIELD_WORDS))
        else:
            for command in deck.commands.key_bar(self._screen, state):
                possible, action = command.available(state) is None, f"app.command('{command.id}')"
                yield Item(key_label(command, state.keys), command.label, action, possible)

    def _field_items(self, words: tuple[str, str]) -> Iterator[Item]:
        """What enter and escape do in a field, and the commands whose keys it does not take as text."""
        deck = deck_of(self)
        for key, word in zip(("enter", "escape"), words, strict=True):
            yield Item("esc" if key == "escape" else key, word, f"app.simulate_key('{key}')")
        for command in deck.commands.field_bar(self._screen, deck.deck):
            if command.available(deck.deck) is None:
                key = field_key_label(command, deck.deck.keys)
                yield Item(key, command.label, f"app.command('{command.id}')")
        yield Item("^q", "quit", "app.quit")

    def render(self) -> Content:
        """Keys and labels of this screen; those not possible now are dim, those that do not fit are left out."""
        shown: list[Content] = []
        self._places = []
        at = 0
        for item in self._items():
            text = Content.assemble((item.key, "bold $accent" if item.possible else "dim"), (f" {item.label}", "dim"))
            if at + text.cell_length > self.content_size.width:
                break
            shown.append(text)
            self._places.append((at, at + text.cell_length, item.action))
            at += text.cell_length + 2
        return Content("  ").join(shown)

    async def on_click(self, event: events.Click) -> None:
        """Do what the key would that was clicked."""
        x = event.x - self.gutter.left
        for start, end, action in self._places:
            if start <= x < end:
                await self.run_action(action)
