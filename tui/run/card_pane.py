"""The card that the shown run trains on, live: gauges over two minutes, who else is on it, what slows it down.

Read once a second in a thread while it is seen and the run lives. Not here: how a card is read
(`engine.hardware.loads`), the gauges (`tui.charts.gauges`).
"""

from __future__ import annotations

import time

from textual.content import Content
from textual.geometry import Size

from engine.api import fit as fit_api
from engine.api.cards import CardLoad, CardWatch, Loads
from engine.errors import EngineError
from tui.background import Poll
from tui.charts.card_history import GAUGES, History
from tui.charts.gauges import gauges_text
from tui.reading.snapshot import RunSnapshot
from tui.text import Part, clip, gib, line, safe
from tui.widgets.lines import Drawn

REFRESH_S = 1.0
_QUIET_S = 5.0
"""A driver that has not answered for so long is said to be silent."""


class CardPane(Drawn):
    """Shown where there is room and the run is on a card; else it is hidden and asks no driver."""

    def __init__(self) -> None:
        super().__init__(id="card")
        self._card = ""
        self._history = History()
        self._watch = CardWatch()
        self._poll = Poll(self, "run's card", REFRESH_S, self._watch.read, self._take, self._failed)
        self._started = False
        self._roomy = False

    def follow(self, snapshot: RunSnapshot | None, *, seen: bool) -> None:
        """Watch the card of the shown run, while it lives and somebody looks."""
        card = snapshot.facts.card if snapshot is not None and snapshot.is_live else ""
        if card != self._card:
            self._card, self._history = card, History()
        self.display = bool(card) and self._roomy
        if self.display and seen:
            self._go_on()
        elif self._started:
            self._poll.pause()

    def fit_in(self, screen: Size) -> None:
        """Whether the screen is large enough for it."""
        self._roomy = screen.width >= 120 and screen.height >= 38

    def on_unmount(self) -> None:
        """Let go of the driver, unless it hangs: then the thread has it."""
        if not self._poll.busy:
            self._watch.close()

    def _go_on(self) -> None:
        if self._started:
            self._poll.resume()
        else:
            self._started = True
            self._poll.start()

    def _take(self, loads: Loads) -> None:
        self._history.add(loads)
        self.draw()

    def draw(self) -> None:
        """Show what is known now; how long the driver has been silent goes by this process's own clock."""
        if self.display and self._history.latest is not None:
            self.show(card_text, self._history, self._card, time.time(), self.size.height)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.show(_words, str(error))


def card_text(history: History, card: str, now_s: float, height: int, width: int) -> Content:
    """Whose memory the card holds beside the run, its gauges, and what slows it down."""
    latest = history.latest
    load = _load_of(latest, card)
    if latest is None or load is None:
        return Content.styled(clip(f"{card} does not answer", width), "$warning")
    quiet = now_s - latest.time_s
    if quiet > _QUIET_S + REFRESH_S:
        head = line((f"the driver has not answered for {quiet:.0f} s", "$warning"))
    else:
        head = line((f"{card} now", "bold"), *_others(load))
    lines = [head.truncate(width, ellipsis=True)]
    if load.slowed_by:
        lines.append(line((clip(f"slowed: {', '.join(load.slowed_by)}", width), "$warning")))
    rows = gauges_text(history, load, width, min(len(GAUGES), max(0, height - len(lines))))
    return Content("\n").join([*lines, rows])


def _words(text: str, width: int) -> Content:
    return Content.styled(clip(safe(text, 200), width), "$warning")


def _load_of(loads: Loads | None, card: str) -> CardLoad | None:
    cards = loads.cards if loads is not None else ()
    return next((load for load in cards if safe(fit_api.card_name(load.gpu)) == card), None)


def _others(load: CardLoad) -> list[Part]:
    """How many processes hold it, the run's own among them."""
    held = load.gpu.processes
    if len(held) < 2:
        return []
    taken = sum(process.used_bytes or 0 for process in held)
    return [(f"  {len(held)} processes, {gib(taken)} GiB", "dim")]
