"""The middle of the run screen: curves beside memory, or what stands in their place.

It decides which of them is seen, from a snapshot alone. Not here: what each pane draws (`curve_pane.py`,
`remedy_pane.py`, `card_pane.py`), and the lines above and below (`screen.py`).
"""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engine.api.runs import Run
from tui.frame.deck import deck_of
from tui.reading.snapshot import RunSnapshot
from tui.run.card_pane import CardPane
from tui.run.commands import RemediesState
from tui.run.curve_pane import CurvePane
from tui.run.remedy_pane import RemedyPane
from tui.run.view import memory_lines, preparation
from tui.widgets.lines import Drawn


class Stage(Horizontal):
    """Curves, memory and the card; for a failure or a preparation, a message in place of the curves."""

    def __init__(self) -> None:
        super().__init__(id="stage")

    def compose(self) -> ComposeResult:
        """Curves or a message, and memory above the card beside them."""
        yield CurvePane(id="charts")
        yield RemedyPane(id="message")
        with Vertical(id="run-side"):
            yield Drawn(id="memory")
            yield CardPane()

    def reset(self, run: Run | None) -> None:
        """Prepare for another run."""
        self.query_one(CurvePane).reset(run)
        self.query_one(RemedyPane).reset(run)

    def show(self, snapshot: RunSnapshot, *, seen: bool) -> None:
        """Curves and memory, or what stands in their place; `seen`: whether the screen is in front."""
        memory, message = self.query_one("#memory", Drawn), self.query_one(RemedyPane)
        message.find(snapshot)
        deck_of(self).deck.put(RemediesState(message.remedies))
        memory.show(memory_lines, snapshot)
        self.show_card(snapshot, seen=seen)
        broken = bool(snapshot.error) and not snapshot.is_live
        if broken:
            message.show_failure(snapshot)
        self._show_preparation(snapshot)
        self.screen.set_class(broken or _begins(snapshot), "-message")
        self.screen.set_class(broken, "-failed")
        self.query_one(CurvePane).show(snapshot)

    def _show_preparation(self, snapshot: RunSnapshot) -> None:
        if _begins(snapshot):
            width = max(20, self.size.width - self.query_one("#memory").size.width - 4)
            self.query_one(RemedyPane).show(preparation(snapshot, time.time(), width))

    def tick(self, snapshot: RunSnapshot | None) -> None:
        """A second has passed: clocks go on, and a driver that is silent is told, though nothing comes."""
        if snapshot is not None:
            self._show_preparation(snapshot)
        self.query_one(CardPane).draw()

    def show_card(self, snapshot: RunSnapshot | None, *, seen: bool) -> None:
        """The card of the run, watched while somebody looks."""
        card = self.query_one(CardPane)
        card.fit_in(self.screen.size)
        card.follow(snapshot, seen=seen)


def _begins(snapshot: RunSnapshot) -> bool:
    """Whether nothing was learned yet, or a run that failed goes on: it has its old error until it trains again."""
    if snapshot.error:
        return snapshot.is_live
    return not (snapshot.curves.loss or snapshot.curves.evals)
