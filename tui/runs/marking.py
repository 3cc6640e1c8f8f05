"""Marks on the list of runs: which runs a comparison shows, in the order in which they were marked."""

from __future__ import annotations

from engine.api.runs import Run
from tui.frame.screen import DeckScreen
from tui.runs.commands import Selection
from tui.runs.list_pane import RunListPane
from tui.runs.listing import Listing
from tui.runs.view import LETTERS


class Marking:
    """Carries out the commands of `screen` on `pane`. The marks stand in the deck's `Selection`."""

    def __init__(self, screen: DeckScreen, pane: RunListPane) -> None:
        self._screen, self._pane = screen, pane

    @property
    def _selection(self) -> Selection:
        return self._screen.deck.of(Selection)

    def toggle(self) -> None:
        """Mark the run under the cursor, or take its mark away."""
        row, marked = self._selection.row, self._selection.marked
        if row is None:
            return
        if any(run.id == row.run.id for run in marked):
            self._set(tuple(run for run in marked if run.id != row.run.id))
        elif len(marked) == len(LETTERS):
            self._screen.say(f"{len(LETTERS)} runs are marked: no more can be told apart")
        else:
            self._set((*marked, row.run))
        self._pane.cursor_down()

    def clear(self) -> None:
        """Take all marks away."""
        self._set(())

    def keep(self, listing: Listing) -> None:
        """Take the marks of runs away that are no longer there."""
        known = {row.run.id for row in listing.rows}
        self._selection.marked = tuple(run for run in self._selection.marked if run.id in known)

    def _set(self, marked: tuple[Run, ...]) -> None:
        self._selection.marked = marked
        self._pane.show(self._pane.listing, marked)
        self._screen.refresh_keys()
