"""Screen 4: all runs. Show, compare, resume, use again, stop, delete; sweeps as one line that opens.

Read again every two seconds while it is seen. Which lines there are and how they look is in `runlines.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, OptionList

from engine.api.runs import Run
from tui.background import Lane
from tui.frame.commands import bindings
from tui.reading.snapshot import short_name
from tui.runs.actions import ActsScreen
from tui.runs.commands import RUNS_COMMANDS
from tui.runs.listing import Listing, RunList, RunRow, SweepRow
from tui.runs.view import (
    LETTERS,
    ORDERS,
    Choice,
    Entry,
    about,
    choice_words,
    entries,
    entry_line,
    heading,
    states,
    sweeps,
    trial_heading,
    trial_line,
    tried,
)
from tui.text import Part, line, safe
from tui.widgets.dialogs import Pick
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

REFRESH_S = 2.0
STATE_HELP = {
    "starting": "The worker begins: it loads the model and reads the data. enter shows how far it is.",
    "running": "It trains in a process of its own. enter shows it, x stops it after a checkpoint.",
    "stopping": "It saves a checkpoint and ends.",
    "completed": "It went to its end. v shows what it has come to: scores, samples, chat, export.",
    "stopped": "It was stopped and saved a checkpoint first. r goes on from there, to the bit.",
    "failed": "It ended with an error: e tells it. r goes on from the newest checkpoint that is whole.",
    "lost": "Its worker died without a word: killed, or the machine went down. r goes on from the newest checkpoint.",
    "damaged": "Its settings cannot be read: it can only be deleted.",
    "removed": "The sweep's own folder is gone; its trials are runs as any other.",
}
SWEEP_HELP = """\
A sweep tries settings in runs of their own. enter shows them, ranked by the value that decides.
u opens the best settings so far as a profile. x stops the search with its trials saved, r goes on."""


class RunsScreen(ActsScreen):
    """See the module."""

    NAME = "runs"
    BINDINGS: ClassVar = bindings(RUNS_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self._list = RunList()
        self._lane = Lane(self, "runs")
        self._choice = Choice()
        self._entries: dict[str, Entry] = {}
        self._timer: Timer | None = None
        self._answered = False
        """Whether the list was read once, or could not be."""

    def compose_body(self) -> ComposeResult:
        """The list, and what is known of the line under the cursor."""
        yield Ends(id="top")
        yield Rule()
        yield Drawn(id="runs-heading")
        field = Input(placeholder="words of a name, model, state or setting; esc clears", compact=True, id="run-words")
        field.cursor_blink = False
        yield field
        yield Rows(id="runs")
        yield Rule()
        yield Line(id="about")

    def on_mount(self) -> None:
        """Read at once, then every two seconds."""
        self.query_one(Rows).focus()
        self._timer = self.set_interval(REFRESH_S, self._read)
        self.call_after_refresh(self._read)

    def on_screen_resume(self) -> None:
        """Somebody looks."""
        if self._timer:
            self._timer.resume()
            self._read()

    def on_screen_suspend(self) -> None:
        """Nobody does."""
        if self._timer:
            self._timer.pause()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        super().on_resize(event)
        self.call_after_refresh(self._show)

    def _read(self) -> None:
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        if not self._lane.busy:
            self._lane.submit(self._list.read, self._seen, self._failed)

    @property
    def ready(self) -> bool:
        """The list was read."""
        return self._answered

    def _failed(self, error: Exception) -> None:
        self._answered = True
        super()._failed(error)

    def _seen(self, listing: Listing) -> None:
        self._listing, self._answered = listing, True
        known = {row.run.id for row in listing.rows}
        self.selection.marked = tuple(run for run in self.selection.marked if run.id in known)
        self._show()

    # Showing

    @property
    def _all(self) -> tuple[RunRow, ...]:
        return self._listing.rows if self._listing else ()

    def _show(self) -> None:
        found = entries(self._listing or Listing(), self._choice)
        self._entries = {one.key: one for one in found}
        self._show_top(found)
        inside, now = self._inside(), time.time()
        draw = partial(trial_line, inside.facts, tried(inside.trials)) if inside else None
        rows = [Row(one.key, self._drawer(one, draw, now)) for one in found]
        self.query_one("#runs", Rows).set_rows(rows)
        empty = _none_found if self._entries or self._all else _empty if self._listing else _reading
        shown = partial(trial_heading, tried(inside.trials), _metric(inside)) if inside else heading
        self.query_one("#runs-heading", Drawn).show(shown if found else empty)
        self._moved()

    def _show_top(self, found: list[Entry]) -> None:
        living = sum(row.is_live for row in self._all)
        total = self._listing.total if self._listing else 0
        shown = f"{len(self._all):,} newest of {total:,}" if total > len(self._all) else f"{total:,}"
        left: list[Part] = [*self.tabs()]
        if self._choice.sweep:
            left = [("sweep ", "dim"), (short_name(self._choice.sweep), "bold"), (f"  {len(found)} trials", "dim")]
        right = [*choice_words(self._choice), (f"  {shown} run{'' if total == 1 else 's'}, {living} alive", "dim")]
        self.query_one("#top", Ends).show(left, right)

    def _inside(self) -> SweepRow | None:
        """The sweep whose trials are shown."""
        found = sweeps(self._listing) if self._choice.sweep and self._listing else []
        return next((one for one in found if one.id == self._choice.sweep), None)

    def _drawer(self, one: Entry, trial: Callable[..., Content] | None, now: float) -> partial[Content]:
        letter = self._letter(one.run) if isinstance(one, RunRow) else ""
        return partial(entry_line, one, letter, now) if trial is None else partial(trial, one, letter)

    def _letter(self, run: Run) -> str:
        marked = [one.id for one in self.selection.marked]
        return LETTERS[marked.index(run.id)] if run.id in marked else ""

    @on(OptionList.OptionHighlighted, "#runs")
    def _moved(self) -> None:
        current = self.query_one("#runs", Rows).current
        one = self._entries.get(current.key) if current else None
        before, inside = (self.selection.row, self.selection.sweep), self._inside()
        self.selection.row = one if isinstance(one, RunRow) else None
        self.selection.sweep = one if isinstance(one, SweepRow) else None
        self.query_one("#about", Line).show(about(one, inside.facts if inside else None))
        if (self.selection.row, self.selection.sweep) != before:
            self.refresh_keys()

    @on(OptionList.OptionSelected, "#runs")
    def _chosen(self) -> None:
        self.deck_app.action_command("attach")

    def help_here(self) -> tuple[str, Content] | None:
        """What the state of the line under the cursor means, and what can be done."""
        one = self.selection.row or self.selection.sweep
        if one is None:
            return None
        sweep = [("\n\n" + SWEEP_HELP, "")] if self.selection.sweep is not None else []
        name = one.name if isinstance(one, RunRow) else short_name(one.id)
        return f"{name}: {one.state}", line(STATE_HELP.get(one.state, ""), *sweep)

    def step_back(self) -> bool:
        """Clear the filter, then leave the sweep; then the screen."""
        if self._choice.words or self.has_class("-searching"):
            self.query_one("#run-words", Input).value = ""
            self.remove_class("-searching")
            self.query_one(Rows).focus()
        elif self._choice.state:
            self._choose(state="")
        elif self._choice.sweep:
            left = f"sweep {self._choice.sweep}"
            self._choose(sweep="")
            self._go_to(left)
        else:
            return False
        return True

    def _choose(self, **changes: Any) -> None:
        self._choice = replace(self._choice, **changes)
        self._show()

    def _go_to(self, key: str) -> None:
        rows = self.query_one("#runs", Rows)
        rows.highlighted = next((place for place, row in enumerate(rows.rows) if row.key == key), rows.highlighted)

    # Filter and order

    def do_find(self) -> None:
        """Type words."""
        self.add_class("-searching")
        self.query_one("#run-words").focus()

    @on(Input.Changed, "#run-words")
    def _on_words(self, event: Input.Changed) -> None:
        self._choose(words=safe(event.value, 80))

    @on(Input.Submitted, "#run-words")
    def _on_words_taken(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(self._choice.words), "-searching")
        self.query_one(Rows).focus()

    def do_state_filter(self) -> None:
        """Pick a state."""
        found = [("", len(self._all)), *states(self._all)]
        lines = [Content(f"{count:>5,}  {state or 'all'}") for state, count in found]
        at = next((place for place, (state, _) in enumerate(found) if state == self._choice.state), 0)

        def take(index: int | None) -> None:
            if index is not None:
                self._choose(state=found[index][0])

        self.app.push_screen(Pick("Show runs that are", lines, at), take)

    def do_sort(self) -> None:
        """The next order."""
        self._choose(order=ORDERS[(ORDERS.index(self._choice.order) + 1) % len(ORDERS)])

    def do_fold(self) -> None:
        """Trials among the runs, or one line a sweep."""
        self._choose(unfolded=not self._choice.unfolded, sweep="")

    # Marks

    def do_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away."""
        row = self.selection.row
        if row is None:
            return
        if any(run.id == row.run.id for run in self.selection.marked):
            self.selection.marked = tuple(run for run in self.selection.marked if run.id != row.run.id)
        elif len(self.selection.marked) == len(LETTERS):
            self.say(f"{len(LETTERS)} runs are marked: no more can be told apart")
        else:
            self.selection.marked = (*self.selection.marked, row.run)
        self._show()
        self.refresh_keys()
        rows = self.query_one("#runs", Rows)
        if rows.highlighted is not None and rows.highlighted < len(rows.rows) - 1:  # it would go round
            rows.action_cursor_down()

    def do_unmark(self) -> None:
        """Take all marks away."""
        self.selection.marked = ()
        self._show()
        self.refresh_keys()

    def do_compare(self) -> None:
        """Show the marked runs beside each other."""
        self.app.switch_mode("compare")

    # Commands on the line under the cursor

    def do_attach(self) -> None:
        """Show the run, or the trials of the sweep."""
        if self.selection.sweep is not None:
            self._choose(sweep=self.selection.sweep.id)
            self.query_one("#runs", Rows).action_first()
        elif self.selection.row is not None:
            self.deck_app.attach(self.selection.row.run)

    def do_evaluation(self) -> None:
        """What the run has come to."""
        self.deck_app.action_command("results")


def _metric(sweep: SweepRow) -> str:
    return sweep.facts.metric if sweep.facts else "eval_loss"


def _empty(width: int) -> Content:
    return Content.styled("   no runs yet: enter on a model of screen 1, then ^r", "dim")


def _none_found(width: int) -> Content:
    return Content.styled("   no run is like that: esc shows all", "dim")


def _reading(width: int) -> Content:
    return Content.styled("   reading …", "dim")
