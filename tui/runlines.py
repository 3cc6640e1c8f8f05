"""Runs and sweeps chosen, ordered and drawn as lines: pure functions of rows and width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from tui.commands import LIVE_STATES
from tui.runlist import RunRow, SweepRow
from tui.snapshot import short_name
from tui.text import STATE_STYLES, Part, age, fit, fit_right, line, number, short_path

Entry = RunRow | SweepRow
ORDERS = ("newest", "name", "state", "best", "steps")
LETTERS = "ABCDEF"
"""Of marked runs; also how many can be compared."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runs are shown and how. `state` empty = all; `sweep` = only the trials of that one."""

    words: str = ""
    state: str = ""
    order: str = "newest"
    sweep: str = ""
    unfolded: bool = False


def entries(rows: Sequence[RunRow], choice: Choice) -> list[Entry]:
    """Lines of the list: runs, and a line for each sweep unless its trials are asked for."""
    if choice.sweep:
        inside = [row for row in rows if row.trial is not None and row.trial.sweep == choice.sweep]
        kept = [row for row in ranked(inside) if _wanted(row, choice)]
        return list(kept if choice.order in ("newest", "best") else _ordered(kept, choice.order))
    loose: list[Entry] = [row for row in rows if (row.trial is None or choice.unfolded) and _wanted(row, choice)]
    return _ordered([*loose, *([] if choice.unfolded else sweeps(rows, choice))], choice.order)


def sweeps(rows: Sequence[RunRow], choice: Choice) -> list[SweepRow]:
    """A line for each sweep with a trial that is wanted."""
    found: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.trial is not None:
            found.setdefault(row.trial.sweep, []).append(row)
    lines = [SweepRow(sweep, tuple(ranked(trials))) for sweep, trials in found.items()]
    return [one for one in lines if any(_wanted(row, choice) for row in one.trials)]


def ranked(trials: Sequence[RunRow]) -> list[RunRow]:
    """Trials by their best evaluation loss; those without one last, by number."""
    return sorted(trials, key=lambda row: (row.best is None, row.best or 0.0, row.trial.number if row.trial else 0))


def _wanted(row: RunRow, choice: Choice) -> bool:
    if choice.state and row.state != choice.state:
        return False
    params = "" if row.trial is None else row.trial.sweep + str(row.trial.params)
    text = f"{row.run.id} {row.facts.name} {row.facts.model} {row.facts.how} {row.state} {params}".lower()
    return all(word in text for word in choice.words.lower().split())


def _ordered(found: Sequence[Entry], order: str) -> list[Entry]:
    if order == "name":
        return sorted(found, key=lambda one: _name(one).lower())
    if order == "state":
        return sorted(found, key=lambda one: (one.state if isinstance(one, RunRow) else "", -one.last_time))
    if order == "best":
        return sorted(found, key=lambda one: (one.best is None, one.best or 0.0))
    if order == "steps":
        return sorted(found, key=lambda one: -(one.step if isinstance(one, RunRow) else 0))
    return sorted(found, key=_begun, reverse=True)


def _begun(one: Entry) -> str:
    """Run ids begin with the time at which they were made."""
    return one.run.id if isinstance(one, RunRow) else max(row.run.id for row in one.trials)


def _name(one: Entry) -> str:
    return one.name if isinstance(one, RunRow) else one.id


def states(rows: Sequence[RunRow]) -> list[tuple[str, int]]:
    """States that occur, with how many runs are in each."""
    return sorted(Counter(row.state for row in rows).items())


def choice_words(choice: Choice) -> list[Part]:
    """What is filtered and how it is ordered, where that is not as usual; words stand in their own field."""
    found: list[Part] = []
    if choice.state:
        found.append((f"  only {choice.state}", "$accent"))
    if choice.order != "newest":
        found.append((f"  by {choice.order}", "$accent"))
    if choice.unfolded and not choice.sweep:
        found.append(("  sweeps unfolded", "$accent"))
    return found


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
    head: list[Part] = [(">" if current else " ", "bold"), (letter or " ", "bold $accent"), " "]
    cells = _sweep_cells(one, at) if isinstance(one, SweepRow) else _run_cells(one, at)
    shown = line(*head, *cells, (fit_right(age(now - one.last_time), 8), "dim"))
    return Content(shown.plain) if current else shown


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
    living = sum(row.state in LIVE_STATES for row in sweep.trials)
    ended = sum(row.state == "completed" for row in sweep.trials)
    model = sweep.trials[0].facts.model.rpartition("/")[2]
    return [
        fit(f"▸ {short_name(sweep.id)}", at.name - 1) + " ",
        (fit("running" if living else "sweep", 11), "$accent" if living else "dim"),
        (fit(model, max(0, at.model - 1)) + (" " if at.model else ""), "dim"),
        fit_right(f"{ended:,} of {len(sweep.trials):,} done", 15),
        _best(sweep.best, at),
    ]


def _best(best: float | None, at: Columns) -> str:
    return fit_right(number(best, ".4f") if best is not None else "–", at.best) if at.best else ""


@dataclass(frozen=True, slots=True)
class Tried:
    """The settings that a sweep tries: their names and the widths of their columns."""

    names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()


def tried(trials: Sequence[RunRow]) -> Tried:
    """Columns for the settings of `trials`, each as wide as its widest value."""
    widths: dict[str, int] = {}
    for row in trials:
        for key, setting in row.trial.params if row.trial else ():
            widths[key] = max(widths.get(key, 0), cell_len(key) + 2, cell_len(setting) + 2)
    return Tried(tuple(widths), tuple(widths.values()))


def _tried_cells(shown: Tried, texts: Sequence[str], room: int) -> str:
    """Values under their names, right-aligned; an ellipsis where there is no room for all."""
    cells = "".join(fit_right(text, size) for text, size in zip(texts, shown.widths, strict=True))
    return fit(cells, room - 2) + "  "


def trial_heading(shown: Tried, width: int) -> Content:
    """The names of the columns of a sweep's trials."""
    text = "   " + fit_right("rank", 4) + fit_right("trial", 6) + _tried_cells(shown, shown.names, width - 45)
    return Content.styled(text + fit("state", 11) + fit_right("step", 12) + fit_right("best", 9), "dim")


def trial_line(row: RunRow, shown: Tried, rank: int, letter: str, width: int, current: bool) -> Content:
    """One trial: rank by best evaluation loss, settings that were tried, how far it is."""
    total = f" of {row.steps_total:,}" if row.steps_total else ""
    params = dict(row.trial.params) if row.trial else {}
    drawn = line(
        (">" if current else " ", "bold"),
        (letter or " ", "bold $accent"),
        " ",
        fit_right("–" if row.best is None else str(rank), 4),
        fit_right(str(row.trial.number if row.trial else ""), 6),
        _tried_cells(shown, [params.get(name, "–") for name in shown.names], width - 45),
        (fit(row.state, 11), STATE_STYLES.get(row.state, "dim")),
        fit_right(f"{row.step:,}{total}", 12),
        fit_right(number(row.best, ".4f") if row.best is not None else "–", 9),
    )
    return Content(drawn.plain) if current else drawn


def about(one: Entry | None) -> Content:
    """What is known of the line under the cursor, and the shell command that tells more."""
    if one is None:
        return Content("")
    if isinstance(one, SweepRow):
        names = ", ".join(dict.fromkeys(key for row in one.trials if row.trial for key, _ in row.trial.params))
        best = one.trials[0]
        params = "  ".join(f"{key} {setting}" for key, setting in best.trial.params) if best.trial else ""
        parts: list[Part] = [(one.id, "bold"), (f"  sweep over {names}\n" if names else "\n", "dim")]
        return line(*parts, (f"best: {params}  ({best.name})\n" if best.best is not None else "", "dim"))
    parts = [(one.facts.run_id, "bold"), (f"  {one.facts.how} {one.facts.device}\n", "dim")]
    parts.append((f"{short_path(one.run.path)}\n", "dim"))
    parts += [(f"{text}\n", "$error") for text in one.error[:2]]
    return line(*parts, (f"$ engine runs show {one.facts.run_id}", "dim"))
