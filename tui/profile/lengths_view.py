"""Documents by length with a line that can be moved: the picture, its axis and what the line would do. Pure functions.

Drawn by `lengths_pane.py`; the counts come from the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.api.profiles import AtLength, LengthChoices
from tui.charts.columns import columns
from tui.text import Part, clip, line

_GAP = 2
"""Columns between two labels of the axis."""


@dataclass(frozen=True, slots=True)
class Picture:
    """How the bounds of a histogram lie in the columns of a width."""

    bounds: tuple[int, ...]
    """Upper bound of each column, as often as it is wide."""
    counts: tuple[int, ...]


def picture(choices: LengthChoices, width: int) -> Picture:
    """The histogram in at most `width` columns: bounds share a column where there are more, or get several each."""
    histogram, room = choices.histogram, max(1, width - 1)
    together = -(-len(histogram) // room)
    groups = [histogram[at : at + together] for at in range(0, len(histogram), together)]
    wide = max(1, room // len(groups))
    bounds = [group[-1][0] for group in groups for _ in range(wide)]
    counts = [sum(count for _, count in group) for group in groups for _ in range(wide)]
    return Picture(tuple(bounds), tuple(counts))


def line_column(shown: Picture, max_length: int) -> int:
    """Columns to the left of the line: those whose documents are not longer."""
    return sum(bound <= max_length for bound in shown.bounds)


def index_at(choices: LengthChoices, width: int, column: int) -> int:
    """The place in `choices.at` of the line that is moved to a column."""
    shown = picture(choices, width)
    inside = max(0, min(len(shown.bounds) - 1, column - 1))
    return choices.index_of(shown.bounds[inside] if column > 0 else choices.at[0].max_length)


def histogram_lines(choices: LengthChoices, index: int, width: int, height: int) -> list[Content]:
    """`height` lines: columns with the line between what is kept whole and what is longer, and the axis below."""
    shown = picture(choices, width)
    at = line_column(shown, choices.at[index].max_length)
    rows = columns(shown.counts, max(1, height - 1))
    lines = [line((row[:at], "$accent"), ("│", "bold"), (row[at:], "$warning")) for row in rows]
    return [*lines, Content.styled(_axis(shown, at), "dim")]


def _axis(shown: Picture, at: int) -> str:
    """Powers of two below the right edge of their column."""
    text = ""
    for column, bound in enumerate(shown.bounds):
        last = column + 1 == len(shown.bounds) or shown.bounds[column + 1] != bound
        label = f"{bound:,}"
        end = column + 1 + (column >= at)
        if last and bound & (bound - 1) == 0 and end - len(label) >= len(text) + _GAP * bool(text):
            text = text.ljust(end - len(label)) + label
    return text


def facts(choices: LengthChoices, at: AtLength) -> list[str]:
    """What this length would do to rows and tokens."""
    all_rows = at.rows + at.rows_dropped
    dropped = f", {at.rows_dropped:,} dropped" if at.rows_dropped else ""
    lost = at.tokens_lost / max(1, choices.tokens)
    found = [f"{at.rows_cut:,} of {all_rows:,} rows cut{dropped}"]
    found.append(f"{at.tokens_lost:,} tokens lost" + (f" ({lost:.1%})" if at.tokens_lost else ""))
    packed = "packed into " if choices.packing else ""
    found.append(f"{packed}{at.sequences:,} sequences" + ("" if choices.packing else ", one row each"))
    return [*found, f"{at.filled:.1%} filled", f"{at.tokens_padded:,} tokens padded"]


def facts_lines(choices: LengthChoices, index: int, width: int, height: int) -> list[Content]:
    """The facts in up to `height` lines, behind the length itself."""
    at = choices.at[index]
    note = "" if at.max_length == choices.max_length else f" (now {choices.max_length:,})"
    head = f"max_length {at.max_length:,}{note}"
    rows: list[list[str]] = [[head]]
    for fact in facts(choices, at):
        if cell_len(" · ".join([*rows[-1], fact])) <= width:
            rows[-1].append(fact)
        elif len(rows) < height:
            rows.append([fact])
    return [_facts_line(row, head, width) for row in rows]


def _facts_line(row: Sequence[str], head: str, width: int) -> Content:
    text = clip(" · ".join(row), width)
    parts: list[Part] = [(head, "bold"), text[len(head) :]] if text.startswith(head) else [text]
    return line(*parts)
