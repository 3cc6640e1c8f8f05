"""Copying from a terminal that may be far away: OSC 52, tmux's buffer, and always a file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from textual.app import App

from engine.files import write_text_atomic
from tui.text import short_path


def copy_text(app: App[None], text: str, path: Path) -> str:
    """Copy `text`; gives a sentence that says where it went. Raises OSError when the file cannot be written."""
    write_text_atomic(path, text)
    return f"copied to {' and '.join(to_clipboard(app, text))}, and to {short_path(path)}"


def to_clipboard(app: App[None], text: str) -> list[str]:
    """Copy `text`; the places where it went. tmux drops OSC 52 unless told otherwise, so its own buffer is loaded."""
    app.copy_to_clipboard(text)
    places = ["the clipboard"]
    if os.environ.get("TMUX"):
        try:
            subprocess.run(
                ["tmux", "load-buffer", "-w", "-"], input=text.encode(), check=True, timeout=2, capture_output=True
            )
            places.append("tmux's buffer")
        except (OSError, subprocess.SubprocessError):
            pass  # whoever calls has another place too
    return places
