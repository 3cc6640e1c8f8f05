"""The key bar: the last line of every screen."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.widget import Widget

from tui.frame.commands import key_label
from tui.frame.deck import deck_of


class KeyBar(Widget):
    """The last line: what the hands can do here, `?` first, never more than fits."""

    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; width: 1fr; padding: 0 1; }"

    def __init__(self, screen: str) -> None:
        super().__init__()
        self._screen = screen
        self._places: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        """Keys and labels of this screen; those not possible now are dim, those that do not fit are left out."""
        deck = deck_of(self)
        state = deck.deck
        shown: list[Content] = []
        self._places = []
        at = 0
        for command in deck.commands.key_bar(self._screen, state):
            possible = command.available(state) is None
            item = Content.assemble(
                (key_label(command, state.keys), "bold $accent" if possible else "dim"), (f" {command.label}", "dim")
            )
            if at + item.cell_length > self.content_size.width:
                break
            shown.append(item)
            self._places.append((at, at + item.cell_length, command.id))
            at += item.cell_length + 2
        return Content("  ").join(shown)

    def on_click(self, event: events.Click) -> None:
        """Carry out the command that was clicked."""
        x = event.x - self.gutter.left
        for start, end, command_id in self._places:
            if start <= x < end:
                deck_of(self).action_command(command_id)
