"""The way to a run's answers from a screen that does not follow it: they are read in a thread, then shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from textual.screen import Screen

from engine.api.runs import Run
from tui.answers.screen import AnswersScreen
from tui.background import Lane
from tui.reading.strips import Strip, read_strips


class AnswersOpener:
    """Shows answers over `screen`, unless another one is in front by then; `failed` is called with what went wrong."""

    def __init__(self, screen: Screen[Any], failed: Callable[[Exception], None]) -> None:
        self._screen, self._failed = screen, failed
        self._lane = Lane(screen, "answers")

    def open(self, run: Run) -> None:
        """Read the answers of `run` and show them."""
        self._lane.submit(partial(read_strips, run), self._show, self._failed)

    def _show(self, strips: tuple[Strip, ...]) -> None:
        app = self._screen.app
        if app.screen is self._screen:
            app.push_screen(AnswersScreen(strips))
