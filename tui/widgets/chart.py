"""The chart as a widget: repaints only when its data or its size changes."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from tui.chart import ChartData, draw


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
