"""What a screen needs to be composed of panes: commands that a pane carries out, and notices from inside one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

P = TypeVar("P", bound=Widget)


def forward(pane: type[P], command: Callable[[P], object]) -> Callable[[Screen[Any]], None]:
    """A command `do_<id>` of a screen that its pane of type `pane` carries out."""

    def carry_out(screen: Screen[Any]) -> None:
        command(screen.query_one(pane))

    return carry_out


def notify(node: DOMNode, text: str, *, error: bool = False) -> None:
    """A short notice that goes away by itself; its text is never read as markup."""
    node.app.notify(text, severity="error" if error else "information", timeout=6 if error else 3, markup=False)
