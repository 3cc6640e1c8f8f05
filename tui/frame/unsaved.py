"""Edits of the open profile that no file has yet: nothing drops them before a person has said so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App

from tui.frame.deck import deck_of
from tui.widgets.dialogs import Confirm


def drop_edits(app: App[Any], action: str, then: Callable[[], None]) -> Confirm | None:
    """Call `then` at once where no edits are lost; else ask first, and return the question. `action` says yes."""
    form = deck_of(app).deck.form
    if form is None or not form.dirty:
        then()
        return None
    question = Confirm(f"{form.name} has edits that are not saved.", action, final=True)
    app.push_screen(question, lambda yes: then() if yes else None)
    return question
