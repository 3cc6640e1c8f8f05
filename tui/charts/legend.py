"""The line above a chart: its name and what was changed about it, then which sign stands for what."""

from __future__ import annotations

from rich.cells import cell_len

from tui.charts.canvas import Styled
from tui.charts.chart import (
    BEST_MARK,
    BEST_STYLE,
    EVAL_LETTER,
    EVAL_MARK,
    EVAL_STYLE,
    FLAG_MARK,
    FLAG_STYLE,
    LINE_STYLE,
    RAW_STYLE,
    ChartData,
    is_dense,
    left_out,
)
from tui.text import clip

RAW_SIGN = "⡀"


def legend(data: ChartData, width: int) -> list[tuple[str, str, str]]:
    """Sign, style and meaning of everything that is drawn more than one kind of."""
    signs = [(one.letter, one.style, one.name) for one in data.series if one.letter and one.name]
    if data.raw:
        signs.append((RAW_SIGN, RAW_STYLE, "steps"))
        signs += [("─", LINE_STYLE, "smoothed")] if data.line else []
    if data.marks and data.raw:
        signs.append((EVAL_LETTER if is_dense(data, width) else EVAL_MARK, EVAL_STYLE, "eval"))
    signs += [(BEST_MARK, BEST_STYLE, "best")] if data.best is not None else []
    signs += [(FLAG_MARK, FLAG_STYLE, "concern")] if data.flags else []
    return signs


def title_row(data: ChartData, width: int) -> list[Styled]:
    """At most `width` columns: the title first; of the signs those that fit whole."""
    row, room = [], width
    notes = [(f"  {left_out(data):,} values ≤ 0 left out", FLAG_STYLE)] if left_out(data) else []
    for text, style in (*data.title, *notes):
        shown = clip(text, room)
        room -= cell_len(shown)
        row.append((shown, style))
    for sign, style, meaning in legend(data, width) if data.title else ():
        needed = cell_len(meaning) + 4
        if needed <= room:
            row += [("  ", ""), (sign, style), (f" {meaning}", "dim")]
            room -= needed
    return row
