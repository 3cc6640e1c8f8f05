"""Screen 6: the cards, live. Whose memory is it, how hard do they work, what slows them down, when is there room?

Read once a second in a thread while it is seen, and while a start waits for memory. Not here: how a card is read
(`engine.hardware.loads`), the lines (`view.py`).
"""

from __future__ import annotations

import getpass
import subprocess
import time
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList

from engine.api import fit as fit_api
from engine.api import runs
from engine.api.cards import CardLoad, place_of
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Poll
from tui.cards.commands import CARDS_COMMANDS, CardsState
from tui.cards.need import Need
from tui.cards.view import (
    ORDERS,
    Holder,
    card_row,
    holder_row,
    holders_heading,
    holders_of,
    legend,
    nothing_text,
    ordered,
)
from tui.cards.waiting import Waiter
from tui.charts.card_history import History
from tui.charts.gauges import gauges_text
from tui.frame.commands import bindings
from tui.frame.copying import copy_and_tell, copy_short
from tui.frame.screen import DeckScreen
from tui.reading.cards import CardsReader, CardsReading
from tui.text import Part, age, safe, trouble
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

REFRESH_S = 1.0
_QUIET_S = 5.0
"""A driver that has not answered for so long is said to be silent."""
HERE = Content(
    "card      whose memory, how busy, how warm, how many watts;\n"
    "          'slowed' names what keeps its clocks down\n"
    "gauges    two minutes of the card under the cursor, now at the right\n"
    "processes who holds what; enter shows the run, tab goes there\n"
    "w         starts the open profile once the card has room"
)


class CardsScreen(DeckScreen):
    """Cards, the gauges of one, and the processes on all."""

    NAME = "cards"
    BINDINGS: ClassVar = bindings(CARDS_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.held = False
        self._reader = CardsReader()
        self._reading: CardsReading | None = None
        self._order = ORDERS[0]
        self._me = _user()
        self._need = Need(self, self._show, self._failed)
        self._poll = Poll(self, "cards", REFRESH_S, self._reader.read, self._take, self._failed)
        self._waiter = Waiter(self, self._started, self._failed)

    def compose_body(self) -> ComposeResult:
        """Cards, gauges, processes, how fresh it is."""
        yield Ends(id="top")
        yield Rule()
        yield Line(id="no-cards")
        yield Rows(id="cards")
        yield Drawn(id="legend")
        yield Rule(id="gauges-rule")
        yield Drawn(id="gauges")
        yield Rule(id="holders-rule")
        yield Drawn(id="holders-heading")
        yield Rows(id="holders", marked_unfocused=False)
        yield Ends(id="cards-status")

    # Life

    def on_mount(self) -> None:
        """Read at once, then every second."""
        self._cards.focus()
        self._poll.start()
        self.set_interval(1.0, self._show_status)

    def on_screen_resume(self) -> None:
        """Go on reading."""
        self._need.look(self.deck)
        self._poll.resume()

    def on_screen_suspend(self) -> None:
        """Rest while another screen is shown, unless a start waits."""
        if self._waiter.waiting is None:
            self._poll.pause()

    def on_unmount(self) -> None:
        """Let go of the driver, unless it hangs: then the thread has it."""
        if not self._poll.busy:
            self._reader.close()

    @property
    def ready(self) -> bool:
        """The cards were read once."""
        return self._reading is not None

    @property
    def _cards(self) -> Rows:
        return self.query_one("#cards", Rows)

    @property
    def _holders(self) -> Rows:
        return self.query_one("#holders", Rows)

    # Reading

    def _take(self, reading: CardsReading) -> None:
        self.history.add(reading.loads)
        self._waiter.saw(reading.loads)
        if not self.held:
            self._reading = reading
            if self.is_current:
                self._show()
        if self._waiter.waiting is None and not self.is_current:
            self._poll.pause()  # what was waited for has begun, or was given up

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.say(trouble(error), error=True)

    # Showing

    @property
    def _card(self) -> CardLoad | None:
        """The card under the cursor."""
        row, reading = self._cards.current, self._reading
        if row is None or reading is None:
            return None
        return next((load for load in reading.loads.cards if str(place_of(load.gpu)) == row.key), None)

    @property
    def _holder(self) -> Holder | None:
        """The process under the cursor."""
        row = self._holders.current
        return next((one for one in self._listed() if row is not None and one.key == row.key), None)

    def _listed(self) -> list[Holder]:
        reading = self._reading
        if reading is None:
            return []
        names = {pid: (name, predicted) for pid, (_, name, predicted) in reading.runs.items()}
        return ordered(holders_of(reading.loads, names), self._order)

    def _show(self) -> None:
        reading = self._reading
        loads = reading.loads if reading is not None else None
        cards = loads.cards if loads is not None else ()
        self.set_class(not cards, "-no-cards")
        with self.app.batch_update():
            self.query_one("#no-cards", Line).show(nothing_text(loads), wraps=True)
            cells = max((len(fit_api.card_name(load.gpu)) for load in cards), default=0)
            self._cards.styles.height = min(len(cards), max(2, self.size.height // 4))
            rows = [
                Row(str(place_of(one.gpu)), partial(card_row, one, self._need.wanted, self._me, cells)) for one in cards
            ]
            self._cards.set_rows(rows)
            self._holders.set_rows([Row(one.key, partial(holder_row, one, self._me)) for one in self._listed()])
            self.query_one("#holders-heading", Drawn).show(holders_heading, self._order)
            facts = [safe(self.deck.machine.hostname, 40)] if self.deck.machine is not None else []
            facts += [f"driver {safe(loads.driver_version, 20)}"] if loads is not None and loads.driver_version else []
            self.show_top(*facts)
            self._show_card()
            self._show_status()

    @on(OptionList.OptionHighlighted)
    def _show_card(self) -> None:
        card = self._card
        gauges = self.query_one("#gauges", Drawn)
        height = gauges.size.height
        latest = self.history.latest
        gauges.show(_gauges, self.history, card, latest.time_s if latest else 0.0, height)
        self.query_one("#legend", Drawn).show(legend, self._need.wanted, card.gpu if card is not None else None)
        holder = self._holder if self._holders.has_focus else None
        state = CardsState(
            card=card is not None and card.gpu.total_bytes is not None,
            holder=holder is not None and bool(holder.run),
            waits=self._waiter.waiting is not None,
        )
        if state != self.deck.of(CardsState):
            self.deck.put(state)
            self.refresh_keys()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """What enter does depends on the list that has the keyboard."""
        self._show_card()

    def _show_status(self) -> None:
        if not self.is_current or not self.query("#cards-status"):
            return
        latest = self.history.latest
        left: list[Part] = [("asking the driver …", "dim")]
        if latest is not None:
            quiet = max(0.0, time.time() - latest.time_s)
            silent = quiet > _QUIET_S + REFRESH_S
            words = f"the driver has not answered for {age(quiet)}" if silent else self._counted()
            left = [(words, "$warning" if silent else "dim")]
        waits = self._waiter.words(latest)
        if waits:
            left = [(waits, "$accent")]
        self.query_one("#cards-status", Ends).show(left, [("view held still (p)" if self.held else "", "$warning")])

    def _counted(self) -> str:
        """How many processes there are, and what slows the card under the cursor."""
        count, card = len(self._listed()), self._card
        words = f"{count} process{'' if count == 1 else 'es'} on the GPUs"
        slow = (
            f" · {fit_api.card_name(card.gpu)} is slowed: {', '.join(card.slowed_by)}"
            if card and card.slowed_by
            else ""
        )
        return words + slow

    def help_here(self) -> tuple[str, Content] | None:
        """How to read the screen."""
        return "the cards", HERE

    # Commands

    def do_order_holders(self, place: int | None = None) -> None:
        """Order by the next thing, or by the column that was clicked."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS) if place is None else place]
        self._show()

    def do_next_pane(self) -> None:
        """Go to the other list."""
        (self._cards if self._holders.has_focus else self._holders).focus()

    def do_hold(self) -> None:
        """Hold the picture still, or go on."""
        self.held = not self.held
        self._show_status()

    @on(OptionList.OptionSelected, "#holders")
    def _chosen(self) -> None:
        self.deck_app.action_command("attach_holder")

    def do_attach_holder(self) -> None:
        """Show the run that the process works on."""
        holder, reading = self._holder, self._reading
        found = reading.runs.get(holder.process.pid) if holder is not None and reading is not None else None
        if found is not None:
            self.deck_app.attach(Run(found[0], runs.runs_root() / found[0]))

    def do_wait(self) -> None:
        """Ask how much has to be free, then wait; or end the wait."""
        card, form = self._card, self.deck.form
        if self._waiter.waiting is not None:
            self._waiter.wait(None)
            self.say("the wait is over; nothing was started")
            self._waits()
            return
        if card is None or form is None:
            return
        self._waiter.ask(self, form, card, self._need.wanted, self._waits)

    def _waits(self) -> None:
        self._show_card()
        self._show_status()

    def _started(self, started: tuple[Run, subprocess.Popen[bytes]]) -> None:
        run, process = started
        if self.is_current:
            self.deck_app.attach(run, process)
        else:
            self.say(f"{run.id} has started: there was room; 4 lists it")

    def do_copy_cards(self) -> None:
        """What is shown, as text."""
        lines = [row.draw(118, False).plain for row in (*self._cards.rows, *self._holders.rows)]
        copy_and_tell(self, "\n".join(lines) + "\n", runs.state_home() / "cards.txt", "the text")

    def do_copy_probe(self) -> None:
        """The same answer in a shell."""
        copy_short(self, "engine probe")


def _gauges(history: History, card: CardLoad | None, now_s: float, height: int, width: int) -> Content:
    """`now_s` tells one picture from the next."""
    return gauges_text(history, card, width, height)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
