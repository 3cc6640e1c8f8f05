"""Curves of several runs in one chart, as a widget."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from tui.overlay import Series, draw_overlay


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
