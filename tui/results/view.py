"""The texts around the views of the results screen."""

from __future__ import annotations

from tui.text import Part
from tui.widgets.lines import does

VIEWS = {"s": "scores", "c": "chat", "e": "export"}
"""The views by their keys."""


def view_names(shown: str) -> list[Part]:
    """The names of the views, that of the one that is shown marked."""
    parts: list[Part] = []
    for key, view in VIEWS.items():
        style = "bold $accent underline" if view == shown else "dim"
        parts += [(f"{key} ", f"dim {does(view)}"), (view, f"{style} {does(view)}"), "   "]
    return parts
