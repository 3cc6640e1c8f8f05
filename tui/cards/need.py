"""What the open profile would take on a card, else the plan under the cursor of screen 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.message_pump import MessagePump

from engine.errors import EngineError
from tui.background import Lane
from tui.cards.view import Wanted
from tui.documents.form import Form, Preview, preview
from tui.frame.session import DeckState


class Need:
    """Keeps `wanted` up to date: a profile is resolved in a thread, and `changed` is called when it is known."""

    def __init__(self, owner: MessagePump, changed: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self.wanted: Wanted | None = None
        self._lane = Lane(owner, "need")
        self._changed, self._failed = changed, failed

    def look(self, deck: DeckState) -> None:
        """Work out what is wanted now."""
        form, plan, machine = deck.form, deck.plan, deck.machine
        if form is None:
            self.wanted = None if plan is None else Wanted(plan.model.name, plan.estimate.device_bytes)
        elif machine is not None:
            work = partial(preview, _text_of(form), form.path, machine)
            self._lane.submit(work, partial(self._resolved, form.name), self._failed)

    def _resolved(self, name: str, found: Preview) -> None:
        plan = found.plan
        self.wanted = None if plan is None else Wanted(name, plan.estimate.device_bytes)
        self._changed()


def _text_of(form: Form) -> str:
    try:
        return form.text()
    except EngineError:
        return form.base_text
