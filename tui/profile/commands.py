"""The commands of screen 2, and why one is not possible now."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tui.frame.commands import Command
from tui.terminal.editor import NO_EDITOR, named_editor

if TYPE_CHECKING:
    from tui.frame.session import DeckState


def _needs_form(state: DeckState) -> str | None:
    return None if state.form is not None else "no profile is open: press o, or enter on a model of screen 1"


def _needs_undo(state: DeckState) -> str | None:
    return _needs_form(state) or (None if state.form and state.form.can_undo else "there is nothing to undo")


def _needs_redo(state: DeckState) -> str | None:
    return _needs_form(state) or (None if state.form and state.form.can_redo else "nothing was taken back")


def _needs_news(state: DeckState) -> str | None:
    return _needs_form(state) or (None if state.form and state.form.stale else "the file on disk is as it was read")


def _needs_editor(state: DeckState) -> str | None:
    return _needs_form(state) or (None if named_editor(os.environ)[1] else NO_EDITOR)


def _needs_space(state: DeckState) -> str | None:
    varied = state.form is not None and state.form.given("sweep.space")
    return _needs_form(state) or (None if varied else "nothing is varied: give sweep.space values to try")


PROFILE_COMMANDS: tuple[Command, ...] = (
    Command("save", "ctrl+s", "save", "Write the profile to its file", "profile", _needs_form, bar=10),
    Command("start", "ctrl+r", "run", "Save what was edited and start the run", "profile", _needs_form, bar=11),
    Command(
        "data", "d", "data", "What becomes of the data, and which tokens are trained", "profile", _needs_form, bar=12
    ),
    Command(
        "sweep",
        "w",
        "sweep",
        "Search over the settings of sweep.space; says first what it takes",
        "profile",
        _needs_space,
    ),
    Command("undo", "u", "undo", "Take the last edit back", "profile", _needs_undo),
    Command("redo", "U,ctrl+y", "redo", "Make the edit again that was taken back", "profile", _needs_redo),
    Command("auto", "a", "auto", "Leave this setting to the machine", "profile", _needs_form),
    Command("diff", "equals_sign", "diff", "Compare with the file, or with a shipped profile", "profile", _needs_form),
    Command("save_as", "S", "save as", "Write the profile to another file", "profile", _needs_form),
    Command("edit", "e", "editor", "Open the file in $VISUAL or $EDITOR", "profile", _needs_editor),
    Command("reload", "R", "take over", "Take over what the file says now", "profile", _needs_news, bar=9, rare=True),
    Command("advanced", "v", "advanced", "Show or hide advanced settings", "profile", _needs_form),
    Command(
        "find_setting",
        "slash",
        "find",
        "Show only settings with some words, is:edited or is:auto",
        "profile",
        _needs_form,
        bar=13,
    ),
    Command("next_section", "right_square_bracket", "next section", "Go to the next section", "profile", _needs_form),
    Command(
        "previous_section", "left_square_bracket", "section before", "Go to the section before", "profile", _needs_form
    ),
    Command("sections", "f", "fold", "Open all sections, or fold them", "profile", _needs_form),
    Command("problem", "n", "next problem", "Go to the field of the next problem", "profile", _needs_form),
    Command("load", "o", "open", "Open another profile", "profile", bar=14),
    Command("new", "N", "new", "New profile for the built-in demo model", "profile"),
)
