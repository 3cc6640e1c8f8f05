"""The list of runs and sweeps: filtered by words and state, ordered, drawn; and a few lines on the current one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList

from engine.api.runs import Run, parse_query
from tui.runs.columns import heading, own_widths
from tui.runs.listing import Listing, RunRow, SweepRow
from tui.runs.selecting import Entry, GroupRow, Selection, entries, runs_shown, sweeps
from tui.runs.view import LETTERS, about, entry_line, trial_columns, trial_heading, trial_line
from tui.text import clip, safe
from tui.widgets.lines import Drawn, Line, Rule
from tui.widgets.rows import Row, Rows

AGES_EVERY_S = 10.0


class RunListPane(Vertical):
    """Shows a listing as `selection` says. Posts `Moved` when the list was drawn again or the cursor moved."""

    @dataclass
    class Moved(Message):
        """`entry` is under the cursor; None when the list is empty."""

        entry: Entry | None

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.disk = ""
        """What all runs take of the disk, in words."""
        self.listing: Listing | None = None
        """None until it was read."""
        self.trouble = ""
        """Why the list could not be read."""
        self._marked: tuple[Run, ...] = ()
        self._entries: dict[str, Entry] = {}
        self._drawn_at = 0.0

    def compose(self) -> ComposeResult:
        """Heading, the field for words, the rows, and what is known of the current one."""
        yield Drawn(id="runs-heading")
        field = Input(
            placeholder="words, tag:keep lora.r=16 best<1.2 age<7d; F1 says all",
            compact=True,
            id="run-words",
        )
        field.cursor_blink = False
        yield field
        yield Rows(id="runs")
        yield Rule()
        yield Line(id="about")

    def on_resize(self) -> None:
        """Lines are laid out for the width."""
        self.call_after_refresh(self._draw)

    @property
    def rows(self) -> tuple[RunRow, ...]:
        """All runs, whatever is shown of them."""
        return self.listing.rows if self.listing else ()

    @property
    def shown_count(self) -> int:
        """Lines of the list."""
        return len(self._entries)

    @property
    def shown(self) -> tuple[RunRow, ...]:
        """The runs that are lines of the list."""
        return runs_shown(list(self._entries.values()))

    @property
    def sweeps_shown(self) -> int:
        """How many lines are sweeps."""
        return sum(isinstance(entry, SweepRow) for entry in self._entries.values())

    @property
    def typing(self) -> bool:
        """Whether words are being typed."""
        return self.query_one("#run-words", Input).has_focus

    def show(self, listing: Listing | None, marked: Sequence[Run]) -> None:
        """Bring the list up to date. Where nothing is new, ages alone are drawn again, and those now and then."""
        same = (listing, tuple(marked), "") == (self.listing, self._marked, self.trouble)
        self.listing, self._marked, self.trouble = listing, tuple(marked), ""
        if not same or time.monotonic() - self._drawn_at > AGES_EVERY_S:
            self._draw()

    def fail(self, trouble: str) -> None:
        """Say in place of the list why it cannot be read."""
        self.listing, self.trouble = None, trouble
        self._draw()

    def forget(self, *runs: Run) -> None:
        """Take the lines of deleted runs away."""
        gone = {run.id for run in runs}
        if self.listing is not None:
            left = tuple(row for row in self.listing.rows if row.run.id not in gone)
            self.show(replace(self.listing, rows=left, total=self.listing.total - len(gone)), self._marked)

    def choose(self, **changes: Any) -> None:
        """Show other runs, or in another order."""
        self.selection = replace(self.selection, **changes)
        self._draw()

    def take_keyboard(self) -> None:
        """Give the rows the keyboard."""
        self.query_one(Rows).focus()

    def to_first(self) -> None:
        """Go to the first line."""
        self.query_one(Rows).action_first()

    def cursor_down(self) -> None:
        """The next line, unless this is the last."""
        rows = self.query_one(Rows)
        if rows.highlighted is not None and rows.highlighted < len(rows.rows) - 1:  # it would go round
            rows.action_cursor_down()

    def next_order(self, step: int = 1) -> None:
        """Order by the next of the columns."""
        orders = self.selection.orders
        self.choose(order=orders[(orders.index(self.selection.order) + step) % len(orders)], turned=False)

    def order_by(self, place: int) -> None:
        """Order by a column; turn the order round where it is that one already."""
        order = self.selection.orders[place]
        same = order == self.selection.order
        self.choose(order=order, turned=same and not self.selection.turned)

    def fold_group(self, group: GroupRow) -> None:
        """Fold a group, or show its runs again."""
        self.choose(closed=self.selection.closed ^ {group.value})

    def open_sweep(self, sweep_id: str) -> None:
        """Show the trials of a sweep."""
        self.choose(sweep=sweep_id)
        self.query_one(Rows).action_first()

    def ask_words(self) -> None:
        """Open the field for words."""
        self.add_class("-searching")
        self.query_one("#run-words").focus()

    def step_back(self) -> bool:
        """Clear the filter, then leave the sweep; False when neither was set."""
        if self.selection.words or self.has_class("-searching"):
            self.query_one("#run-words", Input).value = ""
            self.remove_class("-searching")
            self.take_keyboard()
        elif self.selection.state:
            self.choose(state="")
        elif self.selection.sweep:
            key = f"sweep {self.selection.sweep}"
            self.choose(sweep="")
            rows = self.query_one(Rows)
            rows.highlighted = next((at for at, row in enumerate(rows.rows) if row.key == key), rows.highlighted)
        else:
            return False
        return True

    @on(Input.Changed, "#run-words")
    def _filter(self, event: Input.Changed) -> None:
        event.stop()
        self.choose(words=safe(event.value, 80))

    @on(Input.Submitted, "#run-words")
    def _close_field(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(self.selection.words), "-searching")
        self.take_keyboard()

    @on(OptionList.OptionHighlighted, "#runs")
    def _move(self) -> None:
        current = self.query_one(Rows).current
        entry = self._entries.get(current.key) if current else None
        sweep = self._opened_sweep()
        told = about(entry, sweep.facts if sweep else None, self.disk)
        self.query_one("#about", Line).show(Content.styled(self.trouble, "$error") if self.trouble else told)
        self.post_message(self.Moved(entry))

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        shown = entries(self.listing or Listing(), self.selection)
        self._entries = {entry.key: entry for entry in shown}
        sweep, now = self._opened_sweep(), time.time()
        columns = trial_columns(sweep.trials) if sweep else None
        draw_trial = partial(trial_line, sweep.facts, columns) if sweep and columns else None
        own = own_widths(self.selection.columns, [one.traits for one in shown if not isinstance(one, GroupRow)])
        rows = [Row(entry.key, self._row_drawer(entry, draw_trial, now, own)) for entry in shown]
        self.query_one(Rows).set_rows(rows)
        draw_heading = partial(heading, self.selection, own, len(self.shown))
        if sweep and columns:
            draw_heading = partial(trial_heading, columns, _metric(sweep))
        problem = parse_query(self.selection.words).problem
        self.query_one("#runs-heading", Drawn).show(
            partial(_told, problem) if problem else draw_heading if shown else self._why_empty()
        )
        self._move()

    def _opened_sweep(self) -> SweepRow | None:
        """The sweep whose trials are shown."""
        known = sweeps(self.listing) if self.selection.sweep and self.listing else []
        return next((sweep for sweep in known if sweep.id == self.selection.sweep), None)

    def _row_drawer(
        self, entry: Entry, draw_trial: Callable[..., Content] | None, now: float, own: tuple[tuple[str, int], ...]
    ) -> partial[Content]:
        letter = self._letter(entry.run) if isinstance(entry, RunRow) else ""
        if draw_trial is None:
            return partial(entry_line, entry, letter, now, own)
        return partial(draw_trial, entry, letter)

    def _letter(self, run: Run) -> str:
        marked = [one.id for one in self._marked]
        return LETTERS[marked.index(run.id)] if run.id in marked else ""

    def _why_empty(self) -> Callable[[int], Content]:
        if self.trouble:
            return _unread
        if self.rows:
            return _none_match
        return _no_runs if self.listing else _reading


def _metric(sweep: SweepRow) -> str:
    return sweep.facts.metric if sweep.facts else "eval_loss"


def _told(problem: str, width: int) -> Content:
    return Content.styled(clip(f"   {safe(problem, 200)}", width), "$warning")


def _unread(width: int) -> Content:
    return Content.styled("   the list cannot be read", "$error")


def _no_runs(width: int) -> Content:
    return Content.styled("   no runs yet: enter on a model of screen 1, then ^r", "dim")


def _none_match(width: int) -> Content:
    return Content.styled("   no run is like that: esc shows all", "dim")


def _reading(width: int) -> Content:
    return Content.styled("   reading …", "dim")
