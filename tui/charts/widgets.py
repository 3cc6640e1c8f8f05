"""The chart as a widget: repaints only when its data or its size changes."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from tui.charts.chart import ChartData, draw
from tui.charts.overlay import Series, draw_overlay


class LineChart(Widget):
    """Curves over optimizer steps; `show` gives it new data."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.data = ChartData()

    def show(self, data: ChartData) -> None:
        """Replace what is drawn."""
        if data != self.data:
            self.data = data
            self.refresh()

    def render(self) -> Content:
        """Title line when there is one, then the chart."""
        width, height = self.size
        title = self.data.title
        rows = draw(self.data, width, height - (1 if title else 0))
        lines = [Content.assemble(*row) for row in rows]
        if title:
            lines.insert(0, Content.styled(title, "dim").truncate(width, ellipsis=True))
        return Content("\n").join(lines)


class OverlayChart(Widget):
    """`show` gives it new curves; repaints only when they or its size changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._series: tuple[Series, ...] = ()
        self._powers, self._nothing = False, ""

    def show(self, series: tuple[Series, ...], powers: bool, nothing: str) -> None:
        """Replace the curves; `nothing` stands there when there are none."""
        if (series, powers, nothing) != (self._series, self._powers, self._nothing):
            self._series, self._powers, self._nothing = series, powers, nothing
            self.refresh()

    def render(self) -> Content:
        """The chart."""
        rows = draw_overlay(self._series, *self.size, powers=self._powers)
        if not rows:
            return Content.styled(self._nothing, "dim")
        return Content("\n").join(Content.assemble(*row) for row in rows)
