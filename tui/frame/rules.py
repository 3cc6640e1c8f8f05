"""The style rules of the deck, parsed once for its colors.

Textual parses every sheet anew when it starts and for each screen that is shown for the first time, twice: some 60 ms
in which nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App


def use_colors(app: App[Any]) -> None:
    """Parse for the colors of the app's theme from the beginning on."""
    app.stylesheet.set_variables(app.get_css_variables())


def refresh_rules(app: App[Any], parse_all: Callable[[bool], None], animate: bool) -> None:
    """Parse and apply everything where colors are other ones; else style the screens that have not been since."""
    if app.get_css_variables() != app.stylesheet._variables:
        parse_all(animate)
        return
    app.stylesheet.update_nodes([app], animate=animate)  # its color is what text takes that names none
    for screen in app.screen_stack:
        if screen._css_update_count != app._css_update_count:
            screen._css_update_count = app._css_update_count
            app.stylesheet.update(screen, animate=animate)
            if screen.is_mounted:
                screen.refresh(layout=True)
