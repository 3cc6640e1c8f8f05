"""What has the run screen to itself: the log, or a curve. One class of the screen each; the styles do the rest.

All curves at once (`-grid`) are the curves' own matter: `curve_pane.py`.
"""

from __future__ import annotations

from textual.screen import Screen

LOG, CURVE = "-log", "-zoom"


def enlarge(screen: Screen[None], what: str) -> None:
    """Give `LOG` or `CURVE` the whole screen, or take it back."""
    screen.remove_class(*({LOG, CURVE} - {what}))
    screen.toggle_class(what)


def shrink(screen: Screen[None]) -> bool:
    """Take the whole screen back from the log or the curve; False when neither has it."""
    enlarged = screen.has_class(LOG) or screen.has_class(CURVE)
    screen.remove_class(LOG, CURVE)
    return enlarged
