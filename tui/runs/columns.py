"""The columns of the list of runs: which there are, how wide, their heading, and what own ones say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.api.runs import WORDS, RunTraits, differing_settings, text_of
from engine.text import format_bytes
from tui.runs.listing import score_kinds
from tui.runs.selecting import Selection
from tui.text import Part, clip, fit, fit_right, line, safe, tail
from tui.widgets.lines import does

FIXED = ("run", "state", "model", "step", "best", "age")
"""Columns that the list has anyway, where there is room."""
_MARK, _STATE, _STEP, _BEST, _AGE = 3, 11, 15, 9, 8
_NAME_MIN, _OWN_MIN, _OWN_MOST = 18, 6, 16


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the list; 0 = left out. `own`: columns of one's own with theirs, as many as there is room for."""

    name: int
    model: int
    step: int
    best: int
    own: tuple[tuple[str, int], ...] = ()


def columns(width: int, own: Sequence[tuple[str, int]] = ()) -> Columns:
    """Columns for rows of `width`; state and age are always there, own ones come before model, best and steps."""
    room = width - _MARK - _STATE - _AGE - 1 - _NAME_MIN
    kept: list[tuple[str, int]] = []
    for key, cells in own:
        if cells <= room:
            kept.append((key, cells))
            room -= cells
    step = _STEP if room >= _STEP - 4 * (not own) else 0
    room -= step
    best = _BEST if width >= 70 and room >= _BEST else 0
    rest = room + _NAME_MIN - best
    model = rest * 2 // 5 if width >= 70 and rest >= 30 else 0
    return Columns(rest - model, model, step, best, tuple(kept))


def own_widths(chosen: Sequence[str], listed: Sequence[RunTraits]) -> tuple[tuple[str, int], ...]:
    """Columns of one's own, each as wide as its widest value, within limits."""
    found = []
    for key in chosen:
        if key not in FIXED:
            widest = max((cell_len(own_text(traits, key)) for traits in listed), default=0)
            found.append((key, min(_OWN_MOST, max(_OWN_MIN, widest, cell_len(label(key))) + 2)))
    return tuple(found)


def label(key: str) -> str:
    """A column's short name: the last part of a setting's key."""
    if key in WORDS:
        return "date" if key == "begun" else key
    kind = score_kinds().get(key)
    return kind.label if kind is not None else key.rpartition(".")[2]


def own_text(traits: RunTraits, key: str) -> str:
    """What a column of one's own says of a run; a dash where there is nothing."""
    kind = score_kinds().get(key)
    if kind is not None and key in traits.scores:
        return f"{traits.scores[key] * kind.factor:.{kind.places}f}"
    if key == "disk":
        return "–" if traits.disk_bytes is None else format_bytes(traits.disk_bytes)
    if key == "begun":
        return f"{traits.run_id[:4]}-{traits.run_id[4:6]}-{traits.run_id[6:8]}" if traits.run_id[:8].isdigit() else "–"
    return safe(text_of(traits, key), 60) or "–"


def own_cells(traits: RunTraits, at: Columns) -> str:
    """The cells of one's own columns, right-aligned under their names."""
    return "".join(fit_right(clip(own_text(traits, key), cells - 2), cells) for key, cells in at.own)


def heading(selection: Selection, widths: tuple[tuple[str, int], ...], shown: int, width: int) -> Content:
    """The names of the columns; a click orders by one, and turns the order round where it is ordered by already.

    `shown`: how many runs a filter leaves.
    """
    at = columns(width, widths)
    left = f"  {shown:,} shown " if selection.narrowed else ""
    parts: list[Part] = [" " * _MARK, *_head("run", selection, at.name - cell_len(left), left=True), (left, "$accent")]
    parts += [*_head("state", selection, _STATE, left=True), *_head("model", selection, at.model, left=True)]
    parts += _head("step", selection, at.step)
    for key, cells in at.own:
        parts += _head(key, selection, cells)
    parts += [*_head("best", selection, at.best), *_head("age", selection, _AGE)]
    return line(*parts)


def _head(key: str, selection: Selection, cells: int, *, left: bool = False) -> list[Part]:
    if not cells:
        return []
    ordered = key == selection.order
    text = tail(label(key), max(1, cells - 2 - ordered)) + (arrow(selection) if ordered else "")
    style = "bold $accent" if ordered else "dim"
    known = selection.orders
    click = does("sort", known.index(key)) if key in known else ""
    return [(fit(text, cells) if left else fit_right(text, cells), f"{style} {click}".strip())]


def arrow(selection: Selection) -> str:
    """Which way the order goes: ▲ the lowest first, ▼ the highest first."""
    return "▼" if selection.falling else "▲"


def choices(listed: Sequence[RunTraits], chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Every column that can be chosen, with what it is: chosen ones first, then the likeliest."""
    said = {key: text for key, text in WORDS.items() if key not in FIXED}
    scores = {key for traits in listed for key in traits.scores}
    said |= {key: f"score: {kind.label}" for key, kind in score_kinds().items() if key in scores}
    said |= {key: "setting that differs" for key in differing_settings(listed)}
    said |= {key: "setting" for key in sorted({key for traits in listed for key in traits.settings})} | said
    said |= {key: f"score: {kind.label}" for key, kind in score_kinds().items() if key not in said}
    order = {**{key: said.get(key, "setting") for key in chosen}, **said}
    return [(key, order[key]) for key in order]
