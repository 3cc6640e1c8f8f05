"""Every command of the deck, once: keys, key bar, palette, help and `deck.toml` all come from this table.

Beside it what else the palette finds.
"""

from __future__ import annotations

from tui.cards.commands import CARDS_COMMANDS
from tui.fit.commands import FIT_COMMANDS
from tui.fit.finds import model_entries
from tui.frame.commands import DECK_COMMANDS, CommandTable
from tui.frame.finding import Source
from tui.profile.commands import PROFILE_COMMANDS
from tui.profile.finds import file_entries, setting_entries
from tui.results.commands import RESULTS_COMMANDS
from tui.run.commands import RUN_COMMANDS
from tui.runs.commands import COMPARE_COMMANDS, RUNS_COMMANDS
from tui.runs.finds import run_entries

COMMANDS = CommandTable(
    (
        *DECK_COMMANDS,
        *FIT_COMMANDS,
        *PROFILE_COMMANDS,
        *RUN_COMMANDS,
        *RUNS_COMMANDS,
        *COMPARE_COMMANDS,
        *RESULTS_COMMANDS,
        *CARDS_COMMANDS,
    )
)

SOURCES: tuple[Source, ...] = (setting_entries, file_entries, run_entries, model_entries)
