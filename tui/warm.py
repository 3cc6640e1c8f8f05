"""Load what other screens need while nobody types: their first visit is as quick as the next ones then.

In a thread, and not before the first screen is there: the first frame waits for nothing that it does not show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module

from textual.app import App

from tui.background import in_thread

AFTER_S = 1.5
"""The first screen has its own work before that."""
_PAUSE_S = 0.1
_SCREENS = ("runs", "run", "results", "profile", "cards")
"""In the order of what they cost; the last two load pydantic."""


def warm_up(app: App[None], is_quiet: Callable[[], bool]) -> None:
    """Load the screens once `is_quiet`, asked again and again; at once where one is visited, by the visit itself."""

    def look() -> None:
        if not is_quiet():
            app.set_timer(AFTER_S, look)
        else:
            in_thread(_load, "warm-up")

    app.set_timer(AFTER_S, look)


def _load() -> None:
    for name in _SCREENS:
        import_module(f"tui.{name}.screen")
        time.sleep(_PAUSE_S)  # keys go first
