"""Curves of several runs in one chart, with a letter for each beside its color. Pure functions.

Scale and canvas are those of `chart.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui.charts.chart import AXIS_STYLE, Canvas, Range, Styled, foot, letters, nice_range, scale

STYLES = ("$accent", "$warning", "$success", "$error", "$secondary", "$foreground")


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: its letter, its place in the list (for the color), points by x."""

    letter: str
    place: int
    points: tuple[tuple[float, float], ...]

    def logarithmic(self) -> Series:
        """The same curve with values as powers of ten; values that are not above zero are left out."""
        return replace(self, points=tuple((x, math.log10(y)) for x, y in self.points if y > 0))

    @property
    def style(self) -> str:
        """Its color."""
        return STYLES[self.place % len(STYLES)]


def draw_overlay(series: Sequence[Series], width: int, height: int, *, powers: bool = False) -> list[list[Styled]]:
    """The chart in `width` x `height` characters; empty when there is no room or nothing to show.

    `powers`: values are shown as powers of ten.
    """
    if powers:
        series = [one for one in (line.logarithmic() for line in series) if one.points]
    points = [point for one in series for point in one.points]
    if not points or width < 20 or height < 4:
        return []
    y_axis = nice_range(*_spread([y for _, y in points]), max(3, round((height - 2) / 2.5)))
    labels = {value: f"{10**value:.3g}" if powers else y_axis.label(value) for value in y_axis.ticks()}
    gutter = max((len(text) for text in labels.values()), default=1)
    canvas = Canvas(width - gutter - 2, height - 2)
    xs = [x for x, _ in points]
    x_axis = nice_range(0.0 if min(xs) < 0.1 * max(xs) else min(xs), max(xs), max(1, canvas.width // 10))
    lines = [_plot(canvas, one, x_axis, y_axis) for one in series]
    for number, (one, places) in enumerate(zip(series, lines, strict=True)):
        letters(canvas, one.letter, one.style, number, places)
    at_row = {canvas.height - 1 - _at(value, y_axis, canvas.height): text for value, text in labels.items()}
    rows: list[list[Styled]] = []
    for index, pieces in enumerate(canvas.rows()):
        label = at_row.get(index, "")
        rows.append([(f"{label:>{gutter}} {'┤' if label else '│'}", AXIS_STYLE), *pieces])
    return rows + foot(x_axis, canvas.width, gutter)


def _spread(values: list[float]) -> tuple[float, float]:
    """Lowest and highest value; the highest 2 % may leave the picture, so that a first spike does not flatten all."""
    ordered = sorted(values)
    return ordered[0], ordered[-1 - len(ordered) // 50]


def _at(value: float, axis: Range, cells: int) -> int:
    return scale(value, axis.low, axis.high, cells)


def _plot(canvas: Canvas, one: Series, x_axis: Range, y_axis: Range) -> list[tuple[int, int]]:
    """Draw one curve; where its points are, in dots."""
    across, down = canvas.width * 2, canvas.height * 4
    places = [(_at(x, x_axis, across), down - 1 - _at(y, y_axis, down)) for x, y in one.points]
    for start, end in zip(places, [*places[1:], places[-1]], strict=True):
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps):
            share = step / steps
            x, y = round(start[0] + (end[0] - start[0]) * share), round(start[1] + (end[1] - start[1]) * share)
            canvas.dot(x, min(max(y, 0), down - 1), one.style)
    return places
