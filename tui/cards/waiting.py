"""A start that waits until a card has room: the open profile, as it was when somebody asked.

It waits in the deck: closing the deck ends it, which the question says.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual.message_pump import MessagePump

from engine.api.cards import CardLoad, Loads, place_of
from engine.api.fit import GIB, card_name
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Lane
from tui.cards.view import Wanted
from tui.charts.card_history import Place
from tui.documents.form import Form
from tui.documents.launching import launch
from tui.frame.screen import DeckScreen
from tui.text import gib, safe, trouble
from tui.widgets.dialogs import Ask

LOOKS = 3
"""Readings in a row with enough free memory: what frees a card may take it again at once."""
Started = Callable[[tuple[Run, subprocess.Popen[bytes]]], None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is to start, and what it waits for."""

    name: str
    text: str
    """The profile, its card set to the one that is waited for."""
    path: Path
    place: Place
    card: str
    free_bytes: int


class Waiter:
    """Starts a run once its card has had room for some readings in a row."""

    def __init__(self, owner: MessagePump, started: Started, failed: Callable[[Exception], None]) -> None:
        self.waiting: Waiting | None = None
        self._seen = 0
        self._lane = Lane(owner, "start when free")
        self._started, self._failed = started, failed

    def wait(self, waiting: Waiting | None) -> None:
        """Wait for this from now on; None ends the wait."""
        self.waiting, self._seen = waiting, 0

    def ask(
        self, screen: DeckScreen, form: Form, card: CardLoad, wanted: Wanted | None, waits: Callable[[], None]
    ) -> None:
        """Ask how much has to be free on `card`, then wait for it; `waits` is called when the wait has begun."""
        title = f"Start {safe(form.name, 60)} once {card_name(card.gpu)} has so many GiB free"
        needed = gib(wanted.device_bytes) if wanted is not None else ""

        def take(answer: str | None) -> None:
            if answer is not None:
                self._begin(screen, form, card, float(answer))
                waits()

        check = partial(check_amount, card.gpu.total_bytes)
        screen.app.push_screen(Ask(title, "it waits while this deck is open", needed, check), take)

    def _begin(self, screen: DeckScreen, form: Form, card: CardLoad, amount_gib: float) -> None:
        gpu = card.gpu
        try:
            text = form.text({"launch.gpu": gpu.uuid} if gpu.uuid else {})
        except EngineError as error:
            screen.say(trouble(error), error=True)
            return
        name = safe(form.name, 60)
        self.wait(Waiting(name, text, form.path, place_of(gpu), card_name(gpu), int(amount_gib * GIB)))

    def saw(self, loads: Loads) -> None:
        """Look whether there is room now, and start when there was for long enough."""
        wanted = self.waiting
        if wanted is None:
            return
        free = next((load.gpu.free_bytes for load in loads.cards if place_of(load.gpu) == wanted.place), None)
        self._seen = self._seen + 1 if free is not None and free >= wanted.free_bytes else 0
        if self._seen >= LOOKS:
            self.wait(None)
            self._lane.submit(partial(launch, wanted.text, wanted.path), self._started, self._failed)

    def words(self, loads: Loads | None) -> str:
        """What is waited for; empty when nothing is."""
        wanted = self.waiting
        if wanted is None:
            return ""
        cards = loads.cards if loads is not None else ()
        gpu = next((load.gpu for load in cards if place_of(load.gpu) == wanted.place), None)
        has = "it does not answer" if gpu is None or gpu.free_bytes is None else f"{gib(gpu.free_bytes)} now"
        return f"{wanted.name} starts when {wanted.card} has {gib(wanted.free_bytes)} GiB free: {has} (w ends the wait)"


def check_amount(total_bytes: int | None, text: str) -> str:
    """Why a typed number of GiB cannot be waited for; empty when it can."""
    try:
        amount = float(text)
    except ValueError:
        return "type a number of GiB, such as 20 or 18.5"
    if not 0 < amount < float("inf"):
        return "type a number of GiB above 0"
    if total_bytes is not None and amount * GIB > total_bytes:
        return f"the card has {gib(total_bytes)} GiB in all"
    return ""
