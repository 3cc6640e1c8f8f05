"""The commands of screen 6, and why one is not possible now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.frame.commands import Command

if TYPE_CHECKING:
    from tui.frame.session import DeckState


@dataclass(frozen=True, slots=True)
class CardsState:
    """What the screen shows: whether a card is under the cursor, and whether a start waits for memory."""

    card: bool = False
    holder: bool = False
    """Whether the process under the cursor works on a run of this user."""
    waits: bool = False


def _needs_card(state: DeckState) -> str | None:
    return None if state.of(CardsState).card else "no GPU is here that tells its memory"


def _may_wait(state: DeckState) -> str | None:
    if state.of(CardsState).waits:
        return None
    return _needs_card(state) or (None if state.form is not None else "no profile is open: make one on screen 1")


def _needs_own_run(state: DeckState) -> str | None:
    return None if state.of(CardsState).holder else "the process under the cursor works on none of your runs"


CARDS_COMMANDS: tuple[Command, ...] = (
    Command(
        "attach_holder", "enter", "show run", "Show the run of the process on screen 3", "cards", _needs_own_run, 10
    ),
    Command("wait", "w", "start when free", "Start the open profile once a card has room", "cards", _may_wait, 11),
    Command("order_holders", "o", "order", "Order processes by memory, use, card, user", "cards", bar=12),
    Command("next_pane", "tab", "lists", "Go between cards and processes", "cards", bar=13),
    Command("hold", "p", "pause view", "Hold this picture still", "cards"),
    Command("copy_cards", "y", "copy", "Copy what is shown to the clipboard and to a file", "cards", _needs_card),
    Command("copy_probe", "Y", "copy command", "Copy the shell command that answers the same", "cards"),
)
