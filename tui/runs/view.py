"""Runs, sweeps and groups drawn as lines: pure functions of rows and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.text import format_bytes
from tui.reading.snapshot import short_name
from tui.runs.columns import Columns, arrow, columns, label, own_cells
from tui.runs.listing import RunRow, SweepFacts, SweepRow
from tui.runs.selecting import DEFAULT_ORDER, Entry, GroupRow, Selection, standing
from tui.text import STATE_STYLES, Part, age, clip, fit, fit_right, line, middle, number, safe, short_path

ENDED = ("completed", "pruned", "failed")
"""States of trials that are over."""
LETTERS = "ABCDEF"
"""Of marked runs; also how many can be compared."""


def selection_words(selection: Selection, width: int) -> list[Part]:
    """What is filtered and, where no heading says so, how it is ordered; words stand in their own field."""
    words: list[str] = []
    if selection.state:
        words.append(f"only {selection.state}")
    hidden = ("begun", "model", "best") if width < 72 else ("begun",)
    if (selection.order != DEFAULT_ORDER or selection.turned) and selection.order in hidden:
        words.append(f"by {label(selection.order)} {arrow(selection)}")
    if selection.unfolded and not selection.sweep:
        words.append("sweeps unfolded")
    return [(word, "$accent") for word in words]


def entry_line(
    one: Entry, letter: str, now: float, own: tuple[tuple[str, int], ...], width: int, current: bool
) -> Content:
    """One line of the list; `letter` marks a run that will be compared, `own` are columns of one's own."""
    at = columns(width, own)
    head: list[Part] = [(letter or " ", "bold $accent"), ("> " if current else "  ", "bold")]
    if isinstance(one, GroupRow):
        drawn = line(*head, *_group_parts(one))
        return Content(drawn.plain) if current else drawn.truncate(width, ellipsis=True)
    cells = _sweep_cells(one, at) if isinstance(one, SweepRow) else _run_cells(one, at)
    drawn = line(*head, *cells, (fit_right(age(now - one.last_time), 8), "dim"))
    return Content(drawn.plain) if current else drawn


def _run_cells(row: RunRow, at: Columns) -> list[Part]:
    total = f" of {row.steps_total:,}" if row.steps_total else ""
    steps = f"{row.step:,}{total}" if row.step or total else "–"
    return [
        *_name_parts(row.name, row.traits.notes.tags, at.name - 1),
        (fit(row.state, 11), STATE_STYLES.get(row.state, "dim")),
        (fit(row.facts.model.rpartition("/")[2], max(0, at.model - 1)) + (" " if at.model else ""), "dim"),
        fit_right(steps, at.step) if at.step else "",
        own_cells(row.traits, at),
        _best(row.best, at),
    ]


def _name_parts(name: str, tags: Sequence[str], cells: int) -> list[Part]:
    """The name, and behind it as many tags as there is room for."""
    shown, left, marks = middle(name, cells), cells - min(cells, cell_len(name)), ""
    for tag in tags:
        if cell_len(marks) + cell_len(tag) + 2 <= left:
            marks += f" #{safe(tag, 40)}"
    return [shown, (fit(marks, left) + " ", "$accent")]


def _group_parts(group: GroupRow) -> list[Part]:
    count = len(group.rows)
    parts: list[Part] = [
        ("▸ " if group.closed else "▾ ", "dim"),
        (f"{safe(label(group.column), 40)} = {safe(group.value, 60) or 'not set'}", "bold"),
        (f"   {count:,} run{'' if count == 1 else 's'}", "dim"),
    ]
    parts += [(f"   best {group.best:.4f}", "dim")] if group.best is not None else []
    return parts + ([(f"   {format_bytes(group.disk_bytes)}", "dim")] if group.disk_bytes else [])


def _sweep_cells(sweep: SweepRow, at: Columns) -> list[Part]:
    facts = sweep.facts
    ended = [one for one in facts.standings.values() if one.state in ENDED] if facts else []
    done = len(ended) if facts else sum(row.state == "completed" for row in sweep.trials)
    planned = facts.planned if facts and facts.planned else len(sweep.trials)
    model = sweep.trials[0].facts.model.rpartition("/")[2] if sweep.trials else ""
    return [
        fit(middle(f"▸ {short_name(sweep.id)}", at.name - 1), at.name - 1) + " ",
        (fit(sweep.state, 11), STATE_STYLES.get(sweep.state, "dim")),
        (fit(model, max(0, at.model - 1)) + (" " if at.model else ""), "dim"),
        fit_right(f"{done:,} of {planned:,} trial{'' if planned == 1 else 's'}", at.step) if at.step else "",
        own_cells(sweep.traits, at),
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


def about(one: Entry | None, facts: SweepFacts | None = None, disk: str = "") -> Content:
    """What is known of the line under the cursor, and the shell command that tells more.

    `facts` of a trial's sweep; `disk`: what all runs take.
    """
    in_all = f"{disk} on disk in all" if disk else ""
    if one is None:
        return Content.styled(in_all, "dim")
    if isinstance(one, GroupRow):
        return line(*_group_parts(one)[1:], ("\nenter folds it, or shows its runs again\n", "dim"), (in_all, "dim"))
    if isinstance(one, SweepRow):
        return _about_sweep(one)
    own = "" if one.traits.disk_bytes is None else f"  {format_bytes(one.traits.disk_bytes)} of {disk}"
    parts: list[Part] = [(one.facts.run_id, "bold"), (f"  {one.facts.how} {one.facts.device}{own}\n", "dim")]
    notes = one.traits.notes
    said = " ".join([*(f"#{safe(tag, 40)}" for tag in notes.tags), safe(notes.note or notes.problem, 400)])
    parts += [(f"{said}\n", "$warning" if notes.problem else "$accent")] if said.strip() else []
    reason = standing(one, facts).reason
    parts += [(f"{reason}\n", "$warning")] if reason else []
    parts += [(f"{text}\n", "$error") for text in one.error[:2]]
    # Where there is little room the path gives way.
    place = (f"{short_path(one.run.path)}\n", "dim")
    return line(*parts, place, (f"$ engine runs show {one.facts.run_id}", "dim"))


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
