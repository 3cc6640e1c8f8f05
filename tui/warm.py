"""Make the other screens while nobody types: their first visit is as quick as the next ones then.

Their modules are loaded in a thread, one at a time, and each screen is composed behind the one that is seen. Not before
the first screen is there: the first frame waits for nothing that it does not show.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from textual import events
from textual.app import App

from tui.background import Lane
from tui.frame.screen import DeckScreen

AFTER_S = 1.5
"""The first screen has its own work before that."""
_PAUSE_S = 0.1
_SCREENS = ("runs", "run", "results", "profile", "cards")
"""In the order of what they cost; the last two load pydantic."""


def warm_up(app: App[Any], is_quiet: Callable[[], bool]) -> None:
    """Make the screens, one whenever `is_quiet`, asked again and again; one that is visited first makes itself."""
    left = list(_SCREENS)
    lane = Lane(app, "warm-up")

    def look() -> None:
        if not gc.isenabled():  # `tui.main` holds the collector while the deck opens
            _pass_over_loaded()
            gc.enable()
        if not is_quiet():
            app.set_timer(AFTER_S, look)
        elif left:
            lane.submit(partial(import_module, f"tui.{left[0]}.screen"), loaded, failed)
        else:
            _pass_over_loaded()

    def loaded(_: object) -> None:
        if is_quiet():
            compose_ahead(app, left.pop(0))
        app.set_timer(_PAUSE_S, look)  # keys go first

    def failed(_: Exception) -> None:
        left.pop(0)  # its visit meets the error again, and tells it
        look()

    app.set_timer(AFTER_S, look)


def _pass_over_loaded() -> None:
    """Have the collector leave alone what there is: a look at all of it takes 70 ms, and hardly anything ever goes."""
    gc.freeze()


def compose_ahead(app: App[Any], mode: str) -> None:
    """Make the screen of `mode` and let it rest, as if it had been visited and left."""
    if mode in app._screen_stacks:
        return
    app._init_mode(mode)
    (screen,) = app._screen_stacks[mode]
    if isinstance(screen, DeckScreen):
        screen.was_seen = False
    screen.post_message(events.ScreenSuspend())
