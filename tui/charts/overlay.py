"""Curves of several runs in one chart, with a letter for each beside its color. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tui.charts import chart
from tui.charts.canvas import Styled
from tui.charts.decimate import Point

STYLES = ("$accent", "$warning", "$success", "$error", "$secondary", "$foreground")
_MIN_WIDTH, _MIN_HEIGHT = 20, 4


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: its letter, its place in the list (for the color), points by x."""

    letter: str
    place: int
    points: tuple[tuple[float, float], ...]

    @property
    def style(self) -> str:
        """Its color."""
        return STYLES[self.place % len(STYLES)]

    def drawn(self) -> chart.Series:
        """The same for a chart."""
        return chart.Series(tuple(Point(x, y, y, y) for x, y in self.points), self.style, self.letter)


def draw_overlay(series: Sequence[Series], width: int, height: int, *, powers: bool = False) -> list[list[Styled]]:
    """The chart in `width` x `height` characters; empty when there is no room or nothing to show.

    `powers`: values are shown as powers of ten.
    """
    if width < _MIN_WIDTH or height < _MIN_HEIGHT:
        return []
    lines = tuple(one.drawn() for one in series)
    return chart.draw(chart.ChartData(series=lines, powers=powers, trimmed=True), width, height)
