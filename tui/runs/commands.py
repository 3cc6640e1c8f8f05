"""The commands of screen 4 and of its comparison, and why one is not possible now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.frame.commands import Command
from tui.terminal.editor import NO_EDITOR, named_editor

if TYPE_CHECKING:
    from engine.api.runs import Run
    from tui.frame.session import DeckState
    from tui.runs.listing import RunRow, SweepRow
    from tui.runs.selecting import GroupRow


@dataclass(slots=True)
class Selection:
    """What is under the cursor of the list, and what is marked there."""

    row: RunRow | None = None
    sweep: SweepRow | None = None
    """The sweep under the cursor, when it is one."""
    marked: tuple[Run, ...] = ()
    """Runs marked for a comparison, in the order in which they were."""
    group: GroupRow | None = None
    """The heading under the cursor, when it is one."""
    narrowed: bool = False
    """Whether a filter says which runs are shown."""

    @property
    def line(self) -> RunRow | SweepRow | None:
        """The run or sweep under the cursor."""
        return self.row or self.sweep

    @property
    def best_run(self) -> Run | None:
        """The run under the cursor, or the best trial of the sweep there."""
        best = self.sweep.trials[0] if self.sweep is not None and self.sweep.trials else None
        one = self.row or best
        return one.run if one is not None else None

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return "sweep" if self.sweep is not None else "run"


def _needs_row(state: DeckState) -> str | None:
    here = state.of(Selection)
    if here.row is not None:
        return None
    if here.group is not None:
        return "this is a group: enter folds it"
    return "this is a sweep: enter shows its trials" if here.sweep is not None else "there is no run here yet"


def _row_or_sweep(state: DeckState) -> str | None:
    return None if state.of(Selection).sweep is not None else _needs_row(state)


def _needs_sweep(state: DeckState) -> str | None:
    here = state.of(Selection)
    found = here.sweep is not None or (here.row is not None and here.row.trial is not None)
    return None if found else "no sweep or trial is under the cursor"


def _any_line(state: DeckState) -> str | None:
    return None if state.of(Selection).group is not None else _row_or_sweep(state)


def _narrowed(state: DeckState) -> str | None:
    return None if state.of(Selection).narrowed else "nothing says which runs: / or f shows some of them first"


def _row_live(state: DeckState) -> str | None:
    here = state.of(Selection)
    if here.line is None or here.line.is_live:
        return _row_or_sweep(state)
    return f"this {here.kind} is {here.line.state} already"


def _row_resumable(state: DeckState) -> str | None:
    here = state.of(Selection)
    if here.line is None or here.line.state in ("stopped", "failed", "lost"):
        return _row_or_sweep(state)
    if here.line.is_live:
        return f"this {here.kind} is {here.line.state}: enter shows it"
    is_complete = here.line.state == "completed"
    return f"this {here.kind} is {'complete' if is_complete else here.line.state}"


def _row_editor(state: DeckState) -> str | None:
    return _needs_row(state) or (None if named_editor(os.environ)[1] else NO_EDITOR)


def _row_dead(state: DeckState) -> str | None:
    here = state.of(Selection)
    if here.line is not None and here.line.is_live:
        return f"a running {here.kind} cannot be deleted: stop it first with x"
    return _row_or_sweep(state)


def _row_error(state: DeckState) -> str | None:
    row = state.of(Selection).row
    return _needs_row(state) if row is None or row.error else "this run reported no error"


def _two_marked(state: DeckState) -> str | None:
    count = len(state.of(Selection).marked)
    if count >= 2:
        return None
    return f"{count or 'no'} run{'' if count == 1 else 's'} marked: mark two or more with space"


def _any_marked(state: DeckState) -> str | None:
    return None if state.of(Selection).marked else "no run is marked"


RUNS_COMMANDS: tuple[Command, ...] = (
    Command("attach", "enter", "show", "Show this run, a sweep's trials, a group's runs", "runs", _any_line, bar=10),
    Command("mark", "space", "mark", "Mark this run to compare it, or take the mark away", "runs", _needs_row, bar=11),
    Command("compare", "c", "compare", "Compare marked runs: curves, numbers, settings", "runs", _two_marked, bar=12),
    Command("unmark", "U", "unmark all", "Take all marks away", "runs", _any_marked),
    Command("find", "slash", "filter", "Show only runs with these words", "runs", bar=13),
    Command("state_filter", "f", "states", "Show only runs of one state", "runs"),
    Command("sort", "o,l,right", "order", "Order by the next column; a click on its name does it too", "runs"),
    Command("sort_back", "h,left", "order back", "Order by the column before", "runs"),
    Command("turn", "O", "turn order", "Turn the order round: ▲ the lowest first, ▼ the highest", "runs"),
    Command("columns", "C", "columns", "Choose columns: any setting or score; the deck remembers them", "runs"),
    Command("group", "b", "group by", "Group runs by a setting or another column", "runs"),
    Command("tags", "T", "tags", "Change the tags of this run", "runs", _needs_row),
    Command("note", "n", "note", "Change the note of this run", "runs", _needs_row),
    Command("picture", "p", "charts", "A sweep's metric by each setting, and its trials", "runs", _needs_sweep),
    Command("fold", "t", "fold sweeps", "Show the trials of sweeps among the runs, or fold them", "runs"),
    Command("evaluation", "v", "results", "What this run, or a sweep's best, has come to", "runs", _row_or_sweep),
    Command("overview_row", "i", "overview", "This run, or a sweep's best, on one page", "runs", _row_or_sweep),
    Command("resume", "r", "resume", "Go on where this run or sweep stopped", "runs", _row_resumable),
    Command("reuse", "u", "use settings", "These settings, or a sweep's best, as a new profile", "runs", _row_or_sweep),
    Command(
        "edit_source", "E", "edit profile", "Open the file this run was started from in $EDITOR", "runs", _row_editor
    ),
    Command("halt", "x", "stop", "Stop this run or sweep after a checkpoint", "runs", _row_live),
    Command("delete", "d", "delete", "Delete this run or sweep and its files", "runs", _row_dead),
    Command("delete_shown", "D", "delete shown", "Delete all runs that the filter shows", "runs", _narrowed),
    Command("error", "e", "error", "Say why this run failed", "runs", _row_error),
    Command("copy_row", "y", "copy", "Copy the folder of this run or sweep", "runs", _row_or_sweep),
)

COMPARE_COMMANDS: tuple[Command, ...] = (
    Command("curve", "m", "curve", "Another curve: loss, evaluation, rate, gradient, speed", "compare", bar=10),
    Command("powers", "l", "log scale", "Show values as powers of ten, or plainly", "compare", bar=11),
    Command("all_metrics", "T", "all curves", "All curves of the runs at once", "compare"),
    Command("zoom_curve", "z", "zoom", "Give the curves the whole screen", "compare"),
    Command("all_settings", "a", "all settings", "Show all settings, or only those that differ", "compare", bar=12),
    Command("copy_table", "y", "copy", "Copy the tables to the clipboard and to a file", "compare", bar=13),
)
