"""Runs and sweeps chosen, ordered and drawn as lines: pure functions of rows and width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from tui.reading.snapshot import short_name
from tui.runs.listing import Listing, RunRow, Standing, SweepFacts, SweepRow
from tui.text import STATE_STYLES, Part, age, clip, fit, fit_right, line, number, safe, short_path

Entry = RunRow | SweepRow
ENDED = ("completed", "pruned", "failed")
"""States of trials that are over."""
ORDERS = ("newest", "name", "state", "best", "steps")
LETTERS = "ABCDEF"
"""Of marked runs; also how many can be compared."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs are shown and how. `state` empty = all; `sweep` = only the trials of that one."""

    words: str = ""
    state: str = ""
    order: str = "newest"
    sweep: str = ""
    unfolded: bool = False


def entries(listing: Listing, selection: Selection) -> list[Entry]:
    """Lines of the list: runs, and a line for each sweep unless its trials are shown."""
    rows = listing.rows
    every_sweep = sweeps(listing)
    if selection.sweep:
        trials = next((one.trials for one in every_sweep if one.id == selection.sweep), ())
        matching = [row for row in trials if _matches(row, selection)]
        return list(matching if selection.order in ("newest", "best") else _ordered(matching, selection.order))
    alone: list[Entry] = [row for row in rows if (row.trial is None or selection.unfolded) and _matches(row, selection)]
    folded = [] if selection.unfolded else [one for one in every_sweep if _sweep_matches(one, selection)]
    return _ordered([*alone, *folded], selection.order)


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


def _sweep_matches(one: SweepRow, selection: Selection) -> bool:
    words = selection.words.lower().split()
    has_words = all(word in f"{one.id} sweep {one.state}".lower() for word in words)
    if not selection.state:
        return has_words or any(_matches(row, selection) for row in one.trials)
    return (one.state == selection.state and has_words) or any(_matches(row, selection) for row in one.trials)


def _matches(row: RunRow, selection: Selection) -> bool:
    if selection.state and row.state != selection.state:
        return False
    params = "" if row.trial is None else row.trial.sweep + str(row.trial.params)
    text = f"{row.run.id} {row.facts.name} {row.facts.model} {row.facts.how} {row.state} {params}".lower()
    return all(word in text for word in selection.words.lower().split())


def _ordered(listed: Sequence[Entry], order: str) -> list[Entry]:
    if order == "name":
        return sorted(listed, key=lambda one: _name(one).lower())
    if order == "state":
        return sorted(listed, key=lambda one: (one.state, -one.last_time))
    if order == "best":
        return sorted(listed, key=lambda one: (one.best is None, one.best or 0.0))
    if order == "steps":
        return sorted(listed, key=lambda one: -(one.step if isinstance(one, RunRow) else 0))
    return sorted(listed, key=_begun, reverse=True)


def _begun(one: Entry) -> str:
    """Run ids begin with the time at which they were made."""
    return one.run.id if isinstance(one, RunRow) else one.begun


def _name(one: Entry) -> str:
    return one.name if isinstance(one, RunRow) else one.id


def states(rows: Sequence[RunRow]) -> list[tuple[str, int]]:
    """States that occur, with how many runs are in each."""
    return sorted(Counter(row.state for row in rows).items())


def selection_words(selection: Selection) -> list[Part]:
    """What is filtered and how it is ordered, where that is not as usual; words stand in their own field."""
    words: list[str] = []
    if selection.state:
        words.append(f"only {selection.state}")
    if selection.order != "newest":
        words.append(f"by {selection.order}")
    if selection.unfolded and not selection.sweep:
        words.append("sweeps unfolded")
    return [(word, "$accent") for word in words]


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the list; 0 = left out."""

    name: int
    model: int
    best: int


def columns(width: int) -> Columns:
    """Columns for rows of `width`; state, steps and age are always there."""
    fixed = 3 + 11 + 15 + 8 + 1
    best = 9 if width >= 70 else 0
    rest = width - fixed - best
    model = rest * 2 // 5 if width >= 70 else 0
    return Columns(rest - model, model, best)


def heading(width: int) -> Content:
    """The names of the columns."""
    at = columns(width)
    text = "   " + fit("run", at.name) + fit("state", 11) + fit("model", at.model)
    text += fit_right("step", 15) + fit_right("best" if at.best else "", at.best) + fit_right("age", 8)
    return Content.styled(text, "dim")


def entry_line(one: Entry, letter: str, now: float, width: int, current: bool) -> Content:
    """One line of the list; `letter` marks a run that will be compared."""
    at = columns(width)
    head: list[Part] = [(letter or " ", "bold $accent"), ("> " if current else "  ", "bold")]
    cells = _sweep_cells(one, at) if isinstance(one, SweepRow) else _run_cells(one, at)
    drawn = line(*head, *cells, (fit_right(age(now - one.last_time), 8), "dim"))
    return Content(drawn.plain) if current else drawn


def _run_cells(row: RunRow, at: Columns) -> list[Part]:
    total = f" of {row.steps_total:,}" if row.steps_total else ""
    steps = f"{row.step:,}{total}" if row.step or total else "–"
    return [
        fit(row.name, at.name - 1) + " ",
        (fit(row.state, 11), STATE_STYLES.get(row.state, "dim")),
        (fit(row.facts.model.rpartition("/")[2], max(0, at.model - 1)) + (" " if at.model else ""), "dim"),
        fit_right(steps, 15),
        _best(row.best, at),
    ]


def _sweep_cells(sweep: SweepRow, at: Columns) -> list[Part]:
    facts = sweep.facts
    ended = [one for one in facts.standings.values() if one.state in ENDED] if facts else []
    done = len(ended) if facts else sum(row.state == "completed" for row in sweep.trials)
    planned = facts.planned if facts and facts.planned else len(sweep.trials)
    model = sweep.trials[0].facts.model.rpartition("/")[2] if sweep.trials else ""
    return [
        fit(f"▸ {short_name(sweep.id)}", at.name - 1) + " ",
        (fit(sweep.state, 11), STATE_STYLES.get(sweep.state, "dim")),
        (fit(model, max(0, at.model - 1)) + (" " if at.model else ""), "dim"),
        fit_right(f"{done:,} of {planned:,} trials", 15),
        _best(sweep.best, at),
    ]


def _best(best: float | None, at: Columns) -> str:
    return fit_right(number(best, ".4f") if best is not None else "–", at.best) if at.best else ""


@dataclass(frozen=True, slots=True)
class TrialColumns:
    """The settings that a sweep tries: their names and the widths of their columns."""

    names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()


def trial_columns(trials: Sequence[RunRow]) -> TrialColumns:
    """Columns for the settings of `trials`, each as wide as its widest value."""
    widths: dict[str, int] = {}
    for row in trials:
        for key, setting in row.trial.params if row.trial else ():
            widths[key] = max(widths.get(key, 0), cell_len(key) + 2, cell_len(setting) + 2)
    return TrialColumns(tuple(widths), tuple(widths.values()))


def _param_cells(columns: TrialColumns, texts: Sequence[str], room: int) -> str:
    """Values under their names, right-aligned; an ellipsis where there is no room for all."""
    cells = "".join(fit_right(text, size) for text, size in zip(texts, columns.widths, strict=True))
    return fit(cells, room - 2) + "  "


def trial_heading(columns: TrialColumns, metric: str, width: int) -> Content:
    """The names of the columns of a sweep's trials."""
    text = "   " + fit_right("rank", 4) + fit_right("trial", 6) + _param_cells(columns, columns.names, width - 47)
    return Content.styled(text + fit("state", 11) + fit_right("step", 12) + fit_right(clip(metric, 10), 11), "dim")


def trial_line(
    facts: SweepFacts | None, columns: TrialColumns, row: RunRow, letter: str, width: int, current: bool
) -> Content:
    """One trial: its rank, settings that were tried, how far it is, the value it is ranked by."""
    total = f" of {row.steps_total:,}" if row.steps_total else ""
    params = dict(row.trial.params) if row.trial else {}
    place = standing(row, facts)
    state = place.state if place.state in ("pruned", "failed") else row.state
    value = place.value if place.value is not None else row.best
    drawn = line(
        (letter or " ", "bold $accent"),
        ("> " if current else "  ", "bold"),
        fit_right(str(place.rank or "–"), 4),
        fit_right(str(row.trial.number if row.trial else ""), 6),
        _param_cells(columns, [params.get(name, "–") for name in columns.names], width - 47),
        (fit(state, 11), STATE_STYLES.get(state, "dim")),
        fit_right(f"{row.step:,}{total}", 12),
        fit_right(number(value, ".4f") if value is not None else "–", 11),
    )
    return Content(drawn.plain) if current else drawn


def about(one: Entry | None, facts: SweepFacts | None = None) -> Content:
    """What is known of the line under the cursor, and the shell command that tells more; `facts` of a trial's sweep."""
    if one is None:
        return Content("")
    if isinstance(one, SweepRow):
        return _about_sweep(one)
    parts: list[Part] = [(one.facts.run_id, "bold"), (f"  {one.facts.how} {one.facts.device}\n", "dim")]
    parts.append((f"{short_path(one.run.path)}\n", "dim"))
    reason = standing(one, facts).reason
    parts += [(f"{reason}\n", "$warning")] if reason else []
    parts += [(f"{text}\n", "$error") for text in one.error[:2]]
    return line(*parts, (f"$ engine runs show {one.facts.run_id}", "dim"))


def _about_sweep(sweep: SweepRow) -> Content:
    names = ", ".join(trial_columns(sweep.trials).names)
    parts: list[Part] = [(sweep.id, "bold"), (f"  sweep over {names}\n" if names else "  sweep\n", "dim")]
    best = sweep.trials[0] if sweep.trials else None
    if best is not None and best.trial is not None and sweep.best is not None:
        params = "  ".join(f"{key} {setting}" for key, setting in best.trial.params)
        parts.append((f"best: {params}  (trial {best.trial.number}, {best.name})\n", "dim"))
    if sweep.facts is None:
        return line(*parts, ("its own folder is gone; its trials are runs as any other", "dim"))
    return line(*parts, (f"$ engine sweeps show {sweep.id}", "dim"))
