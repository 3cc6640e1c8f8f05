"""What the palette finds of screen 4: every run, newest first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from engine.errors import EngineError
from tui.frame.finding import Entry
from tui.text import safe

if TYPE_CHECKING:
    from engine.api.runs import Run
    from tui.frame.deck import Deck


def run_entries(deck: Deck) -> list[Entry]:
    """Each opens on the run screen. Only names are read, so that hundreds of runs take no time."""
    from engine.api import runs
    from tui.reading.snapshot import short_name

    try:
        found = runs.list_runs()
    except EngineError:
        return []  # screen 4 says what is wrong with the folder of runs
    return [Entry("run", safe(short_name(run.id), 80), safe(run.id, 80), partial(_attach, run)) for run in found]


def _attach(run: Run, deck: Deck) -> None:
    deck.attach(run)
