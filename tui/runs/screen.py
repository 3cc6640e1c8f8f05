"""Screen 4: all runs. Show, compare, resume, use again, stop, delete; sweeps as one line that opens.

Read again every two seconds while it is seen. Not here: the list (`list_pane.py`) and what the commands on a run do
(`actions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList

from engine.api import runs as runs_api
from engine.errors import EngineError
from engine.text import format_bytes
from tui.background import Poll
from tui.frame.commands import bindings
from tui.frame.screen import DeckScreen
from tui.overview.opening import open_overview
from tui.reading.snapshot import short_name
from tui.runs.actions import RunActions
from tui.runs.arranging import Arranging
from tui.runs.commands import RUNS_COMMANDS, Selection
from tui.runs.disk import DiskUse
from tui.runs.line_help import line_help
from tui.runs.list_pane import RunListPane
from tui.runs.listing import Listing, RunList, RunRow, SweepRow, measured
from tui.runs.marking import Marking
from tui.runs.selecting import GroupRow, states
from tui.runs.source_file import SourceFile
from tui.runs.view import selection_words
from tui.text import trouble
from tui.widgets.dialogs import Pick
from tui.widgets.lines import Ends, Rule

REFRESH_S = 2.0
WIDE_CELLS = 76
"""Columns from which on the first line has room for a sweep's name, and for how many runs are alive."""


class RunsScreen(DeckScreen):
    """All runs of this machine and what can be done with them."""

    NAME = "runs"
    FIELD_WORDS: ClassVar = {"run-words": ("list", "clear")}
    BINDINGS: ClassVar = bindings(RUNS_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self._list = RunList()
        self._pane = RunListPane()
        self._poll = Poll(self, "runs", REFRESH_S, self._read_list, self._show, self._failed)
        self._actions = RunActions(self, self._pane.forget, self._poll.read_now)
        self._disk = DiskUse(self, self._measured)
        self._arranging = Arranging(self, self._pane)
        self._marking = Marking(self, self._pane)
        self._answered = False
        """Whether the list was read once, or could not be."""

    @property
    def selection(self) -> Selection:
        """What is under the cursor, and what is marked."""
        return self.deck.of(Selection)

    def compose_body(self) -> ComposeResult:
        """The tabs with what is filtered, and the list."""
        yield Ends(id="top")
        yield Rule()
        yield self._pane

    def on_mount(self) -> None:
        """Read at once, then every two seconds."""
        self._arranging.as_kept()
        self._pane.take_keyboard()
        self._poll.start()

    def on_screen_resume(self) -> None:
        """Read again."""
        self._poll.resume()

    def on_screen_suspend(self) -> None:
        """Rest while another screen is shown."""
        self._poll.pause()

    @property
    def ready(self) -> bool:
        """The list was read."""
        return self._answered

    def _read_list(self) -> Listing:
        return self._list.read()

    def _show(self, listing: Listing) -> None:
        self._answered = True
        self._actions.collect_workers()
        self._marking.keep(listing)
        self._pane.show(listing, self.selection.marked)
        self._disk.look([row.run for row in listing.rows])

    def _measured(self, sizes: Mapping[str, int]) -> None:
        self._list.sizes = sizes
        self._pane.disk = format_bytes(self._disk.total_bytes)
        if self._pane.listing is not None:
            self._pane.show(measured(self._pane.listing, sizes), self.selection.marked)

    def _failed(self, error: Exception) -> None:
        self._answered = True
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self._pane.fail(trouble(error))

    @on(RunListPane.Moved)
    def _moved(self, event: RunListPane.Moved) -> None:
        before = (self.selection.line, self.selection.group, self.selection.narrowed)
        self.selection.row = event.entry if isinstance(event.entry, RunRow) else None
        self.selection.sweep = event.entry if isinstance(event.entry, SweepRow) else None
        self.selection.group = event.entry if isinstance(event.entry, GroupRow) else None
        self.selection.narrowed = self._pane.selection.narrowed
        self._show_top()
        if (self.selection.line, self.selection.group, self.selection.narrowed) != before:
            self.refresh_keys()

    @on(OptionList.OptionSelected, "#runs")
    def _chosen(self) -> None:
        self.deck_app.action_command("attach")

    def _show_top(self) -> None:
        rows, selection = self._pane.rows, self._pane.selection
        alive = sum(row.is_live for row in rows)
        total = self._pane.listing.total if self._pane.listing else 0
        count = f"{len(rows):,} newest of {total:,}" if total > len(rows) else f"{total:,}"
        count = f"{len(self._pane.shown):,} of {count}" if selection.narrowed else count
        facts, wide = selection_words(selection, self.size.width), self.size.width >= WIDE_CELLS
        if selection.sweep:
            trials = f"{self._pane.shown_count} trial{'' if self._pane.shown_count == 1 else 's'}"
            facts = [(f"{trials} of {short_name(selection.sweep)}" if wide else trials, "bold"), *facts]
        words = f"{count} run{'' if total == 1 else 's'}"
        self.show_top(*facts, f"{words}, {alive} alive" if wide else words)

    def help_here(self) -> tuple[str, Content] | None:
        """What the state of the line under the cursor means, and what can be done."""
        if self._pane.typing:
            return "filter", Content(runs_api.QUERY_HELP)
        return line_help(self.selection.line)

    def step_back(self) -> bool:
        """Clear the filter, then leave the sweep; then the screen."""
        return self._pane.step_back()

    # Filter and order

    def do_find(self) -> None:
        """Type words."""
        self._pane.ask_words()

    def do_state_filter(self) -> None:
        """Pick a state."""
        counts = [("", len(self._pane.rows)), *states(self._pane.rows)]
        lines = [Content(f"{count:>5,}  {state or 'all'}") for state, count in counts]
        at = next((place for place, (state, _) in enumerate(counts) if state == self._pane.selection.state), 0)

        def take(index: int | None) -> None:
            if index is not None:
                self._pane.choose(state=counts[index][0])

        self.app.push_screen(Pick("Show runs that are", lines, at), take)

    def do_sort(self, place: int | None = None) -> None:
        """The next order, or that of a column that was clicked."""
        self._arranging.sort(place)

    def do_sort_back(self) -> None:
        """The order before."""
        self._arranging.sort_back()

    def do_turn(self) -> None:
        """The other way round."""
        self._arranging.turn()

    def do_columns(self) -> None:
        """Choose columns."""
        self._arranging.choose_columns()

    def do_group(self) -> None:
        """Choose what to group by."""
        self._arranging.choose_group()

    def do_fold(self) -> None:
        """Trials among the runs, or one line a sweep."""
        self._pane.choose(unfolded=not self._pane.selection.unfolded, sweep="")

    # Marks

    def do_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away."""
        self._marking.toggle()

    def do_unmark(self) -> None:
        """Take all marks away."""
        self._marking.clear()

    def do_compare(self) -> None:
        """Show the marked runs beside each other."""
        self.app.switch_mode("compare")

    # Commands on the line under the cursor

    def do_picture(self) -> None:
        """Charts of the sweep under the cursor, or of the trial's."""
        from tui.runs.sweep_screen import SweepScreen

        row, sweep = self.selection.row, self.selection.sweep
        wanted = sweep.id if sweep is not None else row.trial.sweep if row is not None and row.trial is not None else ""
        known = self._pane.listing.sweeps if self._pane.listing else ()
        folder = next((one.sweep for one in known if one.sweep.id == wanted), None)
        if folder is None:
            self.say("the sweep's own folder is gone: there is nothing to draw")
        else:
            self.app.push_screen(SweepScreen(folder))

    def do_attach(self) -> None:
        """Show the run, or the trials of the sweep."""
        if self.selection.group is not None:
            self._pane.fold_group(self.selection.group)
        elif self.selection.sweep is not None:
            self._pane.open_sweep(self.selection.sweep.id)
        elif self.selection.row is not None:
            self.deck_app.attach(self.selection.row.run)

    def do_evaluation(self) -> None:
        """What the run has come to."""
        self.deck_app.action_command("results")

    def do_overview_row(self) -> None:
        """Everything about it on one page."""
        open_overview(self, self.selection.best_run)

    def do_reuse(self) -> None:
        """A new profile with its settings."""
        self._actions.reuse()

    def do_edit_source(self) -> None:
        """Open the profile file that it was started from."""
        if self.selection.row is not None:
            SourceFile(self).edit(self.selection.row.run)

    def do_resume(self) -> None:
        """Go on from the newest checkpoint."""
        self._actions.resume()

    def do_halt(self) -> None:
        """Stop it, once confirmed."""
        self._actions.halt()

    def do_delete(self) -> None:
        """Delete it, once confirmed."""
        self._actions.delete()

    def do_delete_shown(self) -> None:
        """Delete all that the filter shows, once confirmed."""
        self._actions.delete_shown(self._pane.shown, self._pane.sweeps_shown)

    def do_tags(self) -> None:
        """Change its tags."""
        self._actions.ask_tags()

    def do_note(self) -> None:
        """Change its note."""
        self._actions.ask_note()

    def do_copy_row(self) -> None:
        """Copy the path of its folder."""
        self._actions.copy_folder()

    def do_error(self) -> None:
        """Why the run failed."""
        self._actions.show_error()
