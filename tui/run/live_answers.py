"""A run's answers to its prompts, read while it goes on: each new one shows in the screen that is open.

Not here: the screen itself (`tui.answers`), and where answers are read from (`tui.reading`).
"""

from __future__ import annotations

from textual.widget import Widget

from tui.answers.screen import AnswersScreen
from tui.reading.snapshot import RunSnapshot


class LiveAnswers:
    """Opens the screen of answers over `owner` and keeps it up to date until it is closed."""

    def __init__(self, owner: Widget) -> None:
        self._owner = owner
        self._open: AnswersScreen | None = None

    def show(self, snapshot: RunSnapshot) -> None:
        """Open the answers there are."""
        self._open = AnswersScreen(snapshot.strips)
        self._owner.app.push_screen(self._open, self._closed)

    def update(self, snapshot: RunSnapshot) -> None:
        """Show what was answered meanwhile, where the screen is open."""
        if self._open is not None:
            self._open.update(snapshot.strips)

    def _closed(self, _: None) -> None:
        self._open = None
