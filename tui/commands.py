"""Every command of the deck, once: keys, key bar, palette, help and `deck.toml` all come from this table."""

from __future__ import annotations

from tui.cards.commands import CARDS_COMMANDS
from tui.fit.commands import FIT_COMMANDS
from tui.frame.commands import DECK_COMMANDS, CommandTable
from tui.profile.commands import PROFILE_COMMANDS
from tui.results.commands import RESULTS_COMMANDS
from tui.run.commands import RUN_COMMANDS
from tui.runs.commands import COMPARE_COMMANDS, RUNS_COMMANDS

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
