"""What screens and widgets may ask of the app that holds them, so that none of them imports it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from textual.dom import DOMNode

    from engine.api.runs import Run
    from tui.documents.form import Form
    from tui.frame.commands import CommandTable
    from tui.frame.options import Options
    from tui.frame.session import DeckState
    from tui.frame.settings import DeckSettings


class Deck(Protocol):
    """The deck, seen from a screen."""

    @property
    def deck(self) -> DeckState:
        """What the screens share."""

    @property
    def commands(self) -> CommandTable:
        """Every command."""

    @property
    def options(self) -> Options:
        """What the command line said."""

    @property
    def settings(self) -> DeckSettings:
        """What the person's own file says."""

    def action_command(self, command_id: str, *arguments: object) -> None:
        """Carry out a command of the table, or say why not."""

    def attach(self, run: Run, process: subprocess.Popen[bytes] | None = None, offset: int = 0) -> None:
        """Show a run on the run screen; `offset` = where a resumed worker's events begin."""

    def open_form(self, form: Form) -> None:
        """Show a profile on the profile screen, asking first when edits of another would be lost."""

    def go_to(self, mode: str, name: str) -> None:
        """Show a screen, and the setting or the model of that name on it."""

    def say(self, text: str, *, error: bool = False) -> None:
        """A short notice that goes by itself."""


def deck_of(node: DOMNode) -> Deck:
    """The deck that a screen or a widget belongs to."""
    return cast("Deck", node.app)
