"""What lies over a screen: it moves by vim's keys, closes once, and ignores sizes that the terminal no longer has."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.await_complete import AwaitComplete
from textual.binding import Binding
from textual.geometry import Size
from textual.screen import ModalScreen, ScreenResultType

from tui.widgets.moving import MOVING


def drop_stale(event: events.Resize, size: Size) -> bool:
    """Keep Textual from laying a screen out for a size that the terminal no longer has; whether this was one.

    Laying out tells the screen its own size again. Of two such words under way each would bring the other back, for
    ever.
    """
    if event.size == size:
        return False
    event.prevent_default()
    return True


class Modal(ModalScreen[ScreenResultType]):
    """A screen over another. A second key that arrives while it closes is not an answer to what lies below."""

    # What the app binds does not reach a modal screen: these of its commands do.
    BINDINGS: ClassVar = [
        *MOVING,
        Binding("ctrl+z", "app.command('suspend')", show=False, id="deck.suspend"),
        Binding("exclamation_mark,f4", "app.command('notices')", show=False, id="deck.notices"),
    ]
    _answered = False

    def on_resize(self, event: events.Resize) -> None:
        """Only for a size that the terminal has."""
        drop_stale(event, self.app.size)

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Close with a result, the first time that this is asked."""
        if self._answered:
            return AwaitComplete()
        self._answered = True
        return super().dismiss(result)
