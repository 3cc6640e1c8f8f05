"""vim's keys in whatever has the keyboard: `j k`, `g G`, `^d ^u`.

Bound by the app and by every question, after the commands of a screen, so that a command keeps its key. Not here: the
form of a profile, which moves between fields.
"""

from __future__ import annotations

from typing import Any

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import OptionList

MOVING: tuple[BindingType, ...] = tuple(
    Binding(key, f"app.move('{where}')", show=False)
    for key, where in (
        ("j", "down"), ("k", "up"), ("g", "first"), ("G", "last"), ("ctrl+d", "half_down"), ("ctrl+u", "half_up"),
    )
)  # fmt: skip
_SIGNS = {"down": 1, "half_down": 1, "up": -1, "half_up": -1}


def move(screen: Screen[Any], where: str) -> None:
    """Move in the list or text of `screen` that has the keyboard; without one, in the first that is seen."""
    widget = screen.focused or _first_seen(screen)
    if isinstance(widget, OptionList):
        _move_in_list(widget, where)
    elif widget is not None:
        _scroll(widget, where)


def _first_seen(screen: Screen[Any]) -> Widget | None:
    seen = (widget for widget in screen.query("*").results(Widget) if widget.focusable and widget.display)
    return next((widget for widget in seen if isinstance(widget, OptionList) or widget.is_scrollable), None)


def _move_in_list(rows: OptionList, where: str) -> None:
    """Unlike the arrows these keys stop at both ends: a key that is held goes to the end and stays there."""
    last = rows.option_count - 1
    if last < 0:
        return
    half = max(1, rows.scrollable_content_region.height // 2)
    step = _SIGNS.get(where, 0) * (half if where.startswith("half") else 1)
    at = 0 if where == "first" else last if where == "last" else (rows.highlighted or 0) + step
    rows.highlighted = max(0, min(last, at))


def _scroll(widget: Widget, where: str) -> None:
    if where == "first":
        widget.scroll_home(animate=False)
    elif where == "last":
        widget.scroll_end(animate=False)
    else:
        half = max(1, widget.scrollable_content_region.height // 2)
        lines = half if where.startswith("half") else 1
        widget.scroll_relative(y=_SIGNS[where] * lines, animate=False)
