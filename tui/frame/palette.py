"""The palette: finds commands of this screen, settings, runs, models and files of profiles by some words.

Opens with the commands; the rest is gathered in a thread and comes a moment later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList

from tui.background import Lane
from tui.frame.commands import key_label
from tui.frame.deck import Deck, deck_of
from tui.frame.finding import KIND_CELLS, Entry, Source, entry_row, ranked, told
from tui.text import safe
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Line
from tui.widgets.rows import Row, Rows

SHOWN = 60
"""Rows of the list; more are counted."""
PATIENCE_S = 0.6
"""Keys typed ahead wait so long for what is gathered."""
_ABOUT_CELLS = 18


def command_entries(deck: Deck, screen: str) -> list[Entry]:
    """The commands that a screen offers; one that is not possible says why."""
    found = []
    for command in deck.commands.of(screen):
        if command.id == "palette":
            continue
        reason = command.available(deck.deck)
        text = f"not now: {reason}" if reason else command.help
        about = f"{key_label(command, deck.deck.keys)}  {text}" if command.key else text
        found.append(Entry("command", command.label, about, partial(_carry_out, command.id), aside=True))
    return found


def _carry_out(command_id: str, deck: Deck) -> None:
    deck.action_command(command_id)


class Palette(Modal[Entry | None]):
    """Closes with what was chosen, or None."""

    BINDINGS: ClassVar = [
        Binding("escape", "give_up", show=False),
        Binding("up", "step('cursor_up')", show=False),
        Binding("down", "step('cursor_down')", show=False),
        Binding("pageup", "step('page_up')", show=False),
        Binding("pagedown", "step('page_down')", show=False),
    ]

    def __init__(self, commands: Sequence[Entry], sources: Sequence[Source]) -> None:
        super().__init__()
        self._entries = list(commands)
        self._sources = sources
        self._found: list[Entry] = []
        self._lane = Lane(self, "palette")
        self._began = 0.0
        self._takes_first = False
        """Whether enter came before there was anything to take."""

    def compose(self) -> ComposeResult:
        """The field, what is found, the list."""
        with Vertical(classes="box"):
            field = Input(placeholder="Search for commands, settings, runs, models, files", compact=True)
            field.cursor_blink = False
            yield field
            yield Line(id="found-count")
            yield Rows(id="found")

    @property
    def ready(self) -> bool:
        """Whether everything is gathered that can be found; keys typed ahead wait a moment for it."""
        return not self._lane.busy or time.monotonic() - self._began > PATIENCE_S

    def on_mount(self) -> None:
        """Type at once; gather meanwhile."""
        self.set_focus(self.query_one(Input))
        self._began = time.monotonic()
        deck = deck_of(self)
        self._lane.submit(lambda: _gather(self._sources, deck), self._gathered, self._failed)
        self._show()

    def _gathered(self, entries: list[Entry]) -> None:
        self._entries += entries
        self._show(from_top=self._takes_first)
        if self._takes_first and self._found:
            self.dismiss(self._found[0])

    def _failed(self, error: Exception) -> None:
        raise error

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._takes_first = False
        self._show(from_top=True)

    def _show(self, from_top: bool = False) -> None:
        text = self.query_one(Input).value
        self._found = ranked(self._entries, text)
        shown = self._found[:SHOWN]
        width = max([12, *(len(entry.label) for entry in shown)])
        rows = self.query_one(Rows)
        width = min(width, max(12, rows.room - KIND_CELLS - _ABOUT_CELLS))
        rows.set_rows([Row(str(number), partial(entry_row, entry, width)) for number, entry in enumerate(shown)])
        if from_top and shown:
            rows.highlighted = 0
        words = told(self._entries, len(self._found), safe(text, 60), self._lane.busy)
        self.query_one("#found-count", Line).show(Content.styled(words, "dim" if self._found else "$warning"))

    def action_step(self, what: str) -> None:
        """Move in the list while the keyboard stays in the field."""
        getattr(self.query_one(Rows), f"action_{what}")()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _take(self, event: Input.Submitted | OptionList.OptionSelected) -> None:
        event.stop()
        at = self.query_one(Rows).highlighted
        if at is not None and at < len(self._found):
            self.dismiss(self._found[at])
        elif self._lane.busy:
            self._takes_first = True

    def action_give_up(self) -> None:
        """Close without a choice."""
        self.dismiss(None)


def _gather(sources: Sequence[Source], deck: Deck) -> list[Entry]:
    return [entry for source in sources for entry in source(deck)]
