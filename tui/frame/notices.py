"""The newest notice and those before it: where one stands, and when it goes.

A notice stands on the screen that was in front when it came, and nowhere else. The next one replaces it. It goes on the
next key, after its time, and with its screen; `!` reads it and those before it. Textual's own would lie over the log,
the key bar and the status, three at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from textual.notifications import Notification
from textual.timer import Timer
from textual.widgets import Input

from tui.frame.commands import field_key_label, key_label
from tui.frame.deck import deck_of
from tui.text import safe
from tui.widgets.notice import Notice, NoticeLine, Told

if TYPE_CHECKING:
    from textual.app import App
    from textual.screen import Screen

KEPT = 50
UNREAD_S = 1.0
"""A key that comes sooner was typed before the notice could be seen."""
SHORTEST_S, CHARACTERS_PER_S = 3.0, 12.0
"""How long a notice stands: a moment to see it, and the time to read it."""


class Notices:
    """The notice that stands now, and all that were told."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._place: Screen[Any] | None = None
        self._since = 0.0
        self._timer: Timer | None = None

    def tell(self, notification: Notification) -> None:
        """Show a notice on the screen in front, in place of the one before."""
        self.clear()
        told = [notification.title, *notification.message.splitlines()]
        notice = Notice("\n".join(safe(part, 1000) for part in told if part), notification.severity)
        state = deck_of(self._app).deck
        state.put(Told((*state.of(Told).notices, notice)[-KEPT:]))
        self._place, self._since = self._app.screen, time.monotonic()
        seconds = max(notification.timeout, SHORTEST_S + len(notice.short) / CHARACTERS_PER_S)
        self._timer = self._app.set_timer(seconds, self.clear)
        self.draw()

    def draw(self) -> None:
        """Show the present notice on its screen; one of a screen that is no longer in front goes."""
        screen = self._place
        if screen is None:
            return
        if screen is not self._app.screen:
            self.clear()
        elif screen.is_mounted:
            lines = screen.query(NoticeLine)
            shown = lines.first() if lines else NoticeLine()
            shown.show(deck_of(self._app).deck.of(Told).notices[-1], self._key())
            if not lines:
                screen.mount(shown)

    def _key(self) -> str:
        """The key that reads a notice; in a field another one, since letters are typed there."""
        deck = deck_of(self._app)
        command = deck.commands.by_id["notices"]
        label = field_key_label if isinstance(self._app.focused, Input) else key_label
        return label(command, deck.deck.keys)

    def key_pressed(self) -> None:
        """The next key takes a notice away once it could be read."""
        if self._place is not None and time.monotonic() - self._since > UNREAD_S:
            self.clear()

    def clear(self) -> None:
        """Nothing stands there any more."""
        place, self._place = self._place, None
        if self._timer is not None:
            self._timer.stop()
        if place is not None and place.is_attached:
            for shown in place.query(NoticeLine):
                shown.show(None)
