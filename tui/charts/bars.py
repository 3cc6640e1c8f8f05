"""Horizontal bars: parts in a row, each in its own glyph, and the legend that names them. Pure functions.

Glyphs tell the parts apart without color; each has a character of its own in `terminal/ascii.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from tui.text import Part, line

_SMALL = 0.1
"""Share of the whole from which a rest is always told."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar."""

    name: str
    amount: float
    glyph: str
    style: str


def stacked(segments: Sequence[Segment], cells: int, whole: float = 0.0) -> list[Part]:
    """`segments` one behind the other in `cells` columns; `whole` is what all the columns stand for.

    Ends are rounded, not lengths, so the bar is as long as its amounts however many parts it has.
    """
    scale = max(whole, sum(max(0.0, one.amount) for one in segments)) or 1.0
    parts: list[Part] = []
    end = 0.0
    at = 0
    for one in segments:
        end += max(0.0, one.amount)
        upto = min(cells, round(end / scale * cells))
        if upto > at:
            parts.append((one.glyph * (upto - at), one.style))
            at = upto
    return [*parts, " " * (cells - at)] if at < cells else parts


def marked(parts: Sequence[Part], at: int, glyph: str, style: str) -> list[Part]:
    """The same bar with one column replaced by a mark."""
    cells = [(char, part[1] if isinstance(part, tuple) else "") for part in parts for char in _text(part)]
    if 0 <= at < len(cells):
        cells[at] = (glyph, style)
    return list(joined(cells))


def joined(cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbors of one style as one part."""
    found: list[tuple[str, str]] = []
    for glyph, style in cells:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + glyph, style)
        else:
            found.append((glyph, style))
    return found


def _text(part: Part) -> str:
    return part if isinstance(part, str) else part[0]


def legend(
    segments: Sequence[Segment], width: int, words: Callable[[float], str], keep: Collection[str] = ()
) -> list[Part]:
    """Glyph, name and amount of the parts, in their order; the smallest are summed up where there is no room.

    Those that `keep` names stay as long as anything does. A sum that is small itself may be left out, too.
    """
    whole = sum(one.amount for one in segments)
    by_size = sorted(segments, key=lambda one: (one.name not in keep, -one.amount))
    for count in range(len(by_size), 0, -1):
        left = sum(one.amount for one in by_size[count:])
        parts = [part for one in segments if one in by_size[:count] for part in _entry(one, words)]
        rest: list[Part] = [("rest ", "dim"), words(left), "  "] if left else []
        for shown in (parts + rest, parts) if left < _SMALL * whole else (parts + rest,):
            if line(*shown[:-1]).cell_length <= width:
                return shown[:-1]
    return []


def _entry(one: Segment, words: Callable[[float], str]) -> list[Part]:
    return [(one.glyph, one.style), (f" {one.name} ", "dim"), words(one.amount), "  "]


def around_zero(low: float, value: float, high: float, cells: int, style: str) -> list[Part]:
    """An interval within -1 and 1 with its value, on a line with zero in the middle.

    An interval that leaves zero out never touches it, however near it is.
    """
    middle = cells // 2
    drawn = [("─", "dim")] * cells
    first, last = (middle + round(bound * middle) for bound in (low, high))
    first, last = (max(first, middle + 1) if low > 0 else first), (min(last, middle - 1) if high < 0 else last)
    for place in range(max(0, first), min(cells - 1, max(first, last)) + 1):
        drawn[place] = ("━", style)
    drawn[middle] = ("┃" if low <= 0 <= high else "│", style if low <= 0 <= high else "dim")
    at = middle + round(value * middle)
    drawn[max(0, min(cells - 1, max(first, min(last, at))))] = ("●", style)
    return list(joined(drawn))
