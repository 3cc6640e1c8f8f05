"""What a person selected, to the clipboard. The app needs this at once."""

from __future__ import annotations

from textual.app import App
from textual.widgets import Input


def copy_selected(app: App[None]) -> bool:
    """Copy what is selected in the field that has the keyboard, or on the screen; False when nothing is."""
    field = app.focused
    selected = field.selected_text if isinstance(field, Input) else ""
    selected = selected or app.screen.get_selected_text() or ""
    if selected:
        from tui.terminal.clipboard import to_clipboard  # writes files: not for the start

        to_clipboard(app, selected)
    return bool(selected)
