"""Which runs and sweeps are lines of the list, in which order and groups: pure functions of rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from engine.api.runs import Query, RunTraits, falls, grouped, matches, ordered, parse_query
from tui.runs.listing import Listing, RunRow, Standing, SweepFacts, SweepRow, score_kinds
from tui.text import safe

DEFAULT_ORDER = "begun"
"""Newest first."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A heading among the lines: runs that have the same in one column."""

    column: str
    value: str
    rows: tuple[RunRow | SweepRow, ...]
    closed: bool = False

    @property
    def key(self) -> str:
        """What tells it from every other line."""
        return f"group {self.value}"

    @property
    def best(self) -> float | None:
        """The lowest evaluation loss of its runs."""
        return min((row.best for row in self.rows if row.best is not None), default=None)

    @property
    def disk_bytes(self) -> int:
        """What its runs take of the disk, as far as it was measured."""
        return sum(row.traits.disk_bytes or 0 for row in self.rows)


Entry = RunRow | SweepRow | GroupRow


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs are shown and how. `state` empty = all; `sweep` = only the trials of that one."""

    words: str = ""
    state: str = ""
    order: str = DEFAULT_ORDER
    turned: bool = False
    """Whether the order goes the other way."""
    sweep: str = ""
    unfolded: bool = False
    columns: tuple[str, ...] = ()
    """Columns of one's own."""
    group: str = ""
    closed: frozenset[str] = frozenset()
    """Values whose groups are folded."""

    @property
    def falling(self) -> bool:
        """Whether the highest value comes first."""
        return falls(self.order, {key: kind.better for key, kind in score_kinds().items()}) != self.turned

    @property
    def narrowed(self) -> bool:
        """Whether only some runs are shown because somebody asked for them; a half-typed `tag:` asks for nothing."""
        return bool(parse_query(self.words).terms or self.state)

    @property
    def orders(self) -> tuple[str, ...]:
        """Columns to order by, from left to right."""
        left = (DEFAULT_ORDER, "run", "state", "model", "step")
        return tuple(dict.fromkeys((*left, *self.columns, "best", "age", self.order)))


def entries(listing: Listing, selection: Selection) -> list[Entry]:
    """Lines of the list: runs, and a line for each sweep unless its trials are shown; below headings when grouped."""
    asked, now_s = parse_query(selection.words), time.time()
    every_sweep = sweeps(listing)
    if selection.sweep:
        trials = next((one.trials for one in every_sweep if one.id == selection.sweep), ())
        matching = [row for row in trials if _matches(row, selection, asked, now_s)]
        ranked_already = selection.order in (DEFAULT_ORDER, "best") and not selection.turned
        return list(matching) if ranked_already else list(_in_order(matching, selection))
    alone: list[RunRow | SweepRow] = [
        row
        for row in listing.rows
        if (row.trial is None or selection.unfolded) and _matches(row, selection, asked, now_s)
    ]
    folded = [] if selection.unfolded else [one for one in every_sweep if _sweep_matches(one, selection, asked, now_s)]
    lines = _in_order([*alone, *folded], selection)
    return _below_headings(lines, selection) if selection.group else list(lines)


def _below_headings(lines: Sequence[RunRow | SweepRow], selection: Selection) -> list[Entry]:
    found: list[Entry] = []
    for value, rows in grouped(lines, _traits, selection.group):
        heading = GroupRow(selection.group, value, tuple(rows), value in selection.closed)
        found += [heading, *([] if heading.closed else rows)]
    return found


def _in_order(lines: Sequence[RunRow | SweepRow], selection: Selection) -> list[RunRow | SweepRow]:
    return ordered(lines, _traits, selection.order, falling=selection.falling)


def _traits(line: RunRow | SweepRow) -> RunTraits:
    return line.traits


def sweeps(listing: Listing) -> list[SweepRow]:
    """Every sweep with its trials, those whose folder is gone as well."""
    trials: dict[str, list[RunRow]] = {safe(one.sweep.id, 80): [] for one in listing.sweeps}
    facts = {safe(one.sweep.id, 80): one for one in listing.sweeps}
    for row in listing.rows:
        if row.trial is not None:
            trials.setdefault(row.trial.sweep, []).append(row)
    return [SweepRow(key, facts.get(key), tuple(ranked(rows, facts.get(key)))) for key, rows in trials.items()]


def ranked(trials: Sequence[RunRow], facts: SweepFacts | None) -> list[RunRow]:
    """Trials by their rank in the sweep; those without one by their best evaluation loss, then by number."""

    def place(row: RunRow) -> tuple[bool, int, bool, float, int]:
        rank = standing(row, facts).rank
        return (not rank, rank, row.best is None, row.best or 0.0, row.trial.number if row.trial else 0)

    return sorted(trials, key=place)


def standing(row: RunRow, facts: SweepFacts | None) -> Standing:
    """How a trial stands, as its sweep says; nothing known without one."""
    number = row.trial.number if row.trial else -1
    return facts.standings.get(number, Standing()) if facts else Standing()


def _sweep_matches(one: SweepRow, selection: Selection, asked: Query, now_s: float) -> bool:
    own = matches(one.traits, asked, now_s) and selection.state in ("", one.state)
    return own or any(_matches(row, selection, asked, now_s) for row in one.trials)


def _matches(row: RunRow, selection: Selection, asked: Query, now_s: float) -> bool:
    return selection.state in ("", row.state) and matches(row.traits, asked, now_s)


def runs_shown(shown: Sequence[Entry]) -> tuple[RunRow, ...]:
    """The runs among the lines, those of folded groups as well; none of a sweep that is one line."""
    found: dict[str, RunRow] = {}
    for entry in shown:
        lines = entry.rows if isinstance(entry, GroupRow) else (entry,)
        found.update((line.run.id, line) for line in lines if isinstance(line, RunRow))
    return tuple(found.values())


def states(rows: Sequence[RunRow]) -> list[tuple[str, int]]:
    """States that occur, with how many runs are in each."""
    return sorted(Counter(row.state for row in rows).items())
