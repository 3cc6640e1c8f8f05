"""How a command is carried out: what stands in its way is asked about or taken first, and a refusal says its reason.

Keys, the key bar, the palette and clicks all come through here. Not here: which commands there are (`tui.commands`),
and what they do (`do_<id>` of the app or of a screen).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from textual.app import App

from tui.frame.commands import Command
from tui.frame.deck import deck_of
from tui.frame.finding import Entry, Source
from tui.frame.palette import Palette, command_entries
from tui.frame.screen import DeckScreen
from tui.widgets.dialogs import Modal


def carry_out(app: App[Any], command: Command, *arguments: object) -> None:
    """Carry out a command, or say why not. What was typed into an open field is taken first."""
    if not command.aside and not _settled_for(app, command):
        return
    reason = command.available(deck_of(app).deck)
    if reason is not None:
        app.notify(f"{command.label}: {reason}", severity="warning", timeout=4, markup=False)
        return
    owner = app.screen_stack[0] if command.screen else app
    getattr(owner, f"do_{command.id}")(*arguments)


def open_palette(app: App[Any], sources: Sequence[Source]) -> None:
    """The palette, but not over a question: its commands would act on what lies below."""
    if isinstance(app.screen, Modal):
        _tell_question(app)
    else:
        entries = command_entries(deck_of(app), app.current_mode)
        app.push_screen(Palette(entries, sources), partial(_go_to_found, app))


def _go_to_found(app: App[Any], entry: Entry | None) -> None:
    """Do what was chosen in the palette; anything but a command first takes what stands in an open field."""
    if entry is not None and (entry.aside or _settled(app)):
        entry.go(deck_of(app))


def _settled_for(app: App[Any], command: Command) -> bool:
    """Whether no field and no question stands in a command's way."""
    if isinstance(app.screen, Modal) and command.id != "quit":
        _tell_question(app)
        return False
    return _settled(app)


def _settled(app: App[Any]) -> bool:
    """Whether what was typed into an open field could be taken."""
    screen = app.screen_stack[0]
    return not isinstance(screen, DeckScreen) or screen.settle_editor()


def _tell_question(app: App[Any]) -> None:
    app.notify("answer what is asked first; esc closes it", severity="warning", timeout=4, markup=False)
