"""Jump mode: a letter over everything on the screen that can be gone to; the letter goes there.

Opened by `ctrl+o`. What can be gone to is told by the screens (`DeckScreen.jump_targets`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui.widgets.dialogs import Modal

LETTERS = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"
Go = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Target:
    """A place in cells of the screen, and how to go there."""

    x: int
    y: int
    go: Go


class JumpScreen(Modal[Go | None]):
    """Letters over targets; a letter closes it with the way to go, anything else with None."""

    BINDINGS: ClassVar = [("escape,ctrl+o,f3", "give_up", "cancel")]

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self._targets = dict(zip(LETTERS, targets, strict=False))

    def compose(self) -> ComposeResult:
        """The letters."""
        for letter, target in self._targets.items():
            label = Static(Content(letter), classes="jump", markup=False)
            label.styles.offset = (target.x, target.y)
            yield label

    def on_key(self, event: events.Key) -> None:
        """A letter goes, anything else cancels."""
        target = self._targets.get(event.character or "")
        event.stop()
        self.dismiss(target.go if target is not None else None)

    def on_click(self) -> None:
        """A click cancels."""
        self.dismiss(None)

    def action_give_up(self) -> None:
        """Close and stay."""
        self.dismiss(None)
