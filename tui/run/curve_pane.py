"""The run screen's curves: which one is large, how smooth, how close, and where the crosshair stands.

The arithmetic is in `curves.py`.
"""

from __future__ import annotations

from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message

from tui.charts.widgets import LineChart
from tui.reading.snapshot import RunSnapshot
from tui.run.curves import KINDS, SMOOTHING, CurveView, chart_data, extent, moved, title_of, window, zoomed

SMALL = ("learning rate", "tokens per second", "memory", "grad norm")
TITLED_HEIGHT = 24
"""Rows of the screen from which the curve has a title even when nothing about it was changed."""
AXIS_COLUMNS = 8


class CurvePane(Vertical):
    """One large curve that keys move through, and three small ones where the screen is tall."""

    class Changed(Message):
        """Another part of the curve is shown, or the crosshair moved."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.view = CurveView()
        self._snapshot: RunSnapshot | None = None

    def compose(self) -> ComposeResult:
        """The large chart above the small ones."""
        yield LineChart(id="loss")
        with Horizontal(id="small"):
            yield from (LineChart(id=f"small-{index}") for index in range(3))

    @property
    def window(self) -> tuple[float, float] | None:
        """Steps to read at full resolution; None for the whole curve, and for memory, which is drawn over time."""
        if self._snapshot is None or self.view.kind == "memory":
            return None
        return window(self._snapshot, self.view)

    @property
    def zoomed(self) -> bool:
        """Whether there is a crosshair or less than the whole curve."""
        return self.view.cursor is not None or self.view.span is not None

    def reset(self) -> None:
        """Prepare for another run: the whole of the same kind of curve."""
        self.view, self._snapshot = CurveView(self.view.kind, self.view.smoothing), None

    def show(self, snapshot: RunSnapshot) -> None:
        """Draw the curves of a snapshot."""
        self._snapshot = snapshot
        self._draw(snapshot)
        small = [kind for kind in SMALL if kind != self.view.kind][:3]
        for index, kind in enumerate(small):
            title = "memory, GiB over seconds" if kind == "memory" else kind
            self.query_one(f"#small-{index}", LineChart).show(chart_data(snapshot, CurveView(kind), title))

    def _draw(self, snapshot: RunSnapshot) -> None:
        bare = self.screen.size.height < TITLED_HEIGHT and self.view == CurveView()
        title = "" if bare else title_of(snapshot, self.view)
        self.query_one("#loss", LineChart).show(chart_data(snapshot, self.view, title))

    def _change(self, view: CurveView) -> None:
        self.view = view
        if self._snapshot is not None:
            self._draw(self._snapshot)
            self.post_message(self.Changed())

    def next_kind(self) -> None:
        """Show the next curve that has points."""
        snapshot = self._snapshot
        kinds = [kind for kind in KINDS if snapshot is None or extent(snapshot, CurveView(kind))]
        at = kinds.index(self.view.kind) if self.view.kind in kinds else -1
        if kinds:
            self._change(self.view.following(kinds[(at + 1) % len(kinds)]))
            if snapshot is not None:
                self.show(snapshot)

    def next_smoothing(self) -> None:
        """Smooth more, or not at all after the strongest smoothing."""
        levels = list(SMOOTHING)
        self._change(replace(self.view, smoothing=levels[(levels.index(self.view.smoothing) + 1) % len(levels)]))

    def zoom_in(self) -> None:
        """Show half as much of the curve."""
        self._zoom(0.5)

    def zoom_out(self) -> None:
        """Show twice as much of the curve."""
        self._zoom(2.0)

    def _zoom(self, factor: float) -> None:
        if self._snapshot is not None:
            self._change(zoomed(self._snapshot, self.view, factor))

    def show_whole(self) -> None:
        """Show all of the curve, without a crosshair."""
        self._change(replace(self.view, span=None, end=None, cursor=None))

    def left(self) -> None:
        """Move the crosshair one column to the left."""
        self._move(-1)

    def right(self) -> None:
        """Move the crosshair one column to the right."""
        self._move(1)

    def far_left(self) -> None:
        """Move the crosshair ten columns to the left."""
        self._move(-10)

    def far_right(self) -> None:
        """Move the crosshair ten columns to the right."""
        self._move(10)

    def _move(self, columns: int) -> None:
        if self._snapshot is not None:
            width = max(10, self.query_one("#loss", LineChart).size.width - AXIS_COLUMNS)
            self._change(moved(self._snapshot, self.view, columns / width))
