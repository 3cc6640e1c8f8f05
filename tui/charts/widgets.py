"""Charts as widgets: only the parts of rows that look different are sent to the terminal again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.style import Style as VisualStyle
from textual.widget import Widget

from tui.charts.canvas import Styled
from tui.charts.chart import ChartData, draw
from tui.charts.grid import Layout, cell_at, draw_cell, draw_grid, layout
from tui.charts.overlay import Series, draw_overlay

Rows = list[list[Styled]]


def changed_regions(before: Rows, after: Rows) -> list[Region]:
    """Where two pictures of equal size differ, one stretch a row. Every character is one column wide."""
    found = []
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            ours = [(character, style) for text, style in old for character in text]
            theirs = [(character, style) for text, style in new for character in text]
            size = max(len(ours), len(theirs))
            ours += [(" ", "")] * (size - len(ours))
            theirs += [(" ", "")] * (size - len(theirs))
            differing = [x for x, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]
            if differing:
                found.append(Region(differing[0], y, differing[-1] - differing[0] + 1, 1))
    return found


class Picture(Widget):
    """Rows of styled characters. A subclass keeps what is drawn and gives `draw_rows`."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: Rows = []
        self._rows_size = (0, 0)
        self._segment_styles: dict[str, Style] = {}
        self._styles_of: tuple[VisualStyle, str] | None = None
        """The widget's own style, to which those of segments were added, and the theme."""

    def draw_rows(self, width: int, height: int) -> Rows:
        """The picture in so many columns and rows."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again; what looks the same is not sent again."""
        width, height = self.size
        before = self._rows if self._rows_size == (width, height) else []
        self._rows, self._rows_size = self.draw_rows(width, height), (width, height)
        if len(before) != len(self._rows):
            self.refresh()
        elif regions := changed_regions(before, self._rows):
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """One row, which Textual asks for where something changed."""
        width, height = self.size
        if self._rows_size != (width, height):
            self._rows, self._rows_size = self.draw_rows(width, height), (width, height)
        row = self._rows[y] if y < len(self._rows) else []
        strip = Strip([Segment(text, self._segment_style(style)) for text, style in row if text])
        return strip.adjust_cell_length(width, self._segment_style(""))

    def _segment_style(self, style: str) -> Style:
        base = self.visual_style
        if self._styles_of != (base, self.app.theme):
            self._styles_of = (base, self.app.theme)
            self._segment_styles.clear()
        if style not in self._segment_styles:
            shown = base + self.app.stylesheet.parse_style(style) if style else base
            self._segment_styles[style] = shown.rich_style
        return self._segment_styles[style]


class LineChart(Picture):
    """Curves over optimizer steps; `show` gives it new data."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.data = ChartData()

    def show(self, data: ChartData) -> None:
        """Replace what is drawn."""
        if data != self.data:
            self.data = data
            self.redraw()

    def draw_rows(self, width: int, height: int) -> Rows:
        """Title line when there is one, then the chart."""
        return draw_cell(self.data, width, height) if self.data.title else draw(self.data, width, height)


class OverlayChart(Picture):
    """`show` gives it new curves; repaints only when they or its size changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._series: tuple[Series, ...] = ()
        self._powers, self._nothing = False, ""

    def show(self, series: tuple[Series, ...], powers: bool, nothing: str) -> None:
        """Replace the curves; `nothing` stands there when there are none."""
        if (series, powers, nothing) != (self._series, self._powers, self._nothing):
            self._series, self._powers, self._nothing = series, powers, nothing
            self.redraw()

    def draw_rows(self, width: int, height: int) -> Rows:
        """The chart, or why there is none."""
        return draw_overlay(self._series, width, height, powers=self._powers) or [[(self._nothing, "dim")]]


class ChartGrid(Picture, can_focus=True):
    """Charts beside and above each other, one of them chosen; those that find no room are on further pages."""

    BINDINGS: ClassVar = [
        Binding("up,k", "choose(-1)", show=False),
        Binding("down,j", "choose(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("enter", "open", show=False),
    ]

    class Chosen(Message):
        """Another chart is chosen; `opened`: to be seen alone."""

        def __init__(self, index: int, *, opened: bool) -> None:
            super().__init__()
            self.index, self.opened = index, opened

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._cells: tuple[ChartData, ...] = ()
        self._chosen = 0

    @property
    def shape(self) -> Layout:
        """How the charts lie in the room there is."""
        return layout(len(self._cells), *self.size)

    @property
    def page_note(self) -> str:
        """Which page this is; empty when there is only one."""
        shape = self.shape
        return f"page {shape.page_of(self._chosen) + 1} of {shape.pages}" if shape.pages > 1 else ""

    def show(self, cells: Sequence[ChartData], chosen: int) -> None:
        """Replace the charts; the page of the chosen one is seen."""
        if (tuple(cells), chosen) != (self._cells, self._chosen):
            self._cells, self._chosen = tuple(cells), chosen
            self.redraw()

    def draw_rows(self, width: int, height: int) -> Rows:
        """The charts of the page."""
        shape = layout(len(self._cells), width, height)
        first = shape.page_of(self._chosen) * shape.per_page
        return draw_grid(self._cells[first : first + shape.per_page], shape, width, height)

    def action_choose(self, change: int) -> None:
        """The next chart or the one before."""
        self._choose(self._chosen + change)

    def action_page(self, change: int) -> None:
        """The next page or the one before."""
        self._choose(self._chosen + change * self.shape.per_page)

    def action_open(self) -> None:
        """See the chosen chart alone."""
        self._choose(self._chosen, opened=True)

    def on_click(self, event: events.Click) -> None:
        """Choose the chart; the chosen one is seen alone."""
        shape = self.shape
        first = shape.page_of(self._chosen) * shape.per_page
        at = first + cell_at(event.x, event.y, shape, *self.size)
        if at < len(self._cells):
            self._choose(at, opened=at == self._chosen)

    def _choose(self, index: int, *, opened: bool = False) -> None:
        if self._cells:
            self.post_message(self.Chosen(min(max(0, index), len(self._cells) - 1), opened=opened))
