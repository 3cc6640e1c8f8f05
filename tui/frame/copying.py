"""Copying what a screen or a pane shows, and saying where it went or why it could not."""

from __future__ import annotations

from pathlib import Path

from textual.dom import DOMNode

from tui.terminal.clipboard import copy_text, to_clipboard
from tui.text import safe, short_path
from tui.widgets.panes import notify


def copy_and_tell(node: DOMNode, text: str, path: Path, what: str = "it") -> None:
    """Copy `text` to the clipboard and to the file at `path`; `what` names it where the file cannot be written."""
    try:
        notice = copy_text(node.app, text, path)
    except OSError as error:
        notify(node, f"{what} cannot be written to {short_path(path)}: {error.strerror}", error=True)
        return
    notify(node, safe(notice))


def copy_short(node: DOMNode, text: str, shown: str = "") -> None:
    """Copy a command or a path and say it again; `shown`: what stands for it there."""
    also = ", to tmux's buffer too" if len(to_clipboard(node.app, text)) > 1 else ""
    notify(node, f"copied{also}: {shown or safe(text)}")
