"""The run screen's curve: which, how smooth, how close, and the crosshair. `run_log.py` builds on this class."""

from __future__ import annotations

from dataclasses import replace

from tui.charts.widgets import LineChart
from tui.frame.screen import DeckScreen
from tui.reading.snapshot import RunSnapshot
from tui.reading.tail import RunTail
from tui.run.curves import KINDS, SMOOTHING, CurveView, chart_data, extent, moved, reading, title_of, window, zoomed
from tui.run.view import numbers
from tui.widgets.lines import Drawn

SMALL = ("learning rate", "tokens per second", "memory", "grad norm")


class CurveScreen(DeckScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.view = CurveView()
        self._tail: RunTail | None = None

    def _show_curves(self, shot: RunSnapshot) -> None:
        self._show_curve(shot)
        small = [kind for kind in SMALL if kind != self.view.kind][:3]
        for index, kind in enumerate(small):
            view = CurveView(kind)
            title = "memory, GiB over seconds" if kind == "memory" else kind
            self.query_one(f"#small-{index}", LineChart).show(chart_data(shot, view, title))

    def _show_curve(self, shot: RunSnapshot) -> None:
        """The large curve; steps that are looked at closely are asked for at full resolution."""
        view = self.view
        if self._tail:
            self._tail.look(window(shot, view) if view.kind != "memory" else None)
        bare = self.size.height < 24 and view == CurveView()
        title = "" if bare else title_of(shot, view)
        line = self.query_one("#numbers", Drawn)
        line.show(numbers, shot) if view.cursor is None else line.show(reading, shot, view)
        self.query_one("#loss", LineChart).show(chart_data(shot, view, title))

    def _look(self, view: CurveView) -> None:
        self.view = view
        if self.deck.snapshot is not None:
            self._show_curve(self.deck.snapshot)

    def do_chart(self) -> None:
        """The next curve."""
        kinds = [kind for kind in KINDS if self.deck.snapshot is None or extent(self.deck.snapshot, CurveView(kind))]
        at = kinds.index(self.view.kind) if self.view.kind in kinds else -1
        if kinds:
            self._look(self.view.following(kinds[(at + 1) % len(kinds)]))
            if self.deck.snapshot is not None:
                self._show_curves(self.deck.snapshot)

    def do_smooth(self) -> None:
        """The next smoothing."""
        levels = list(SMOOTHING)
        self._look(replace(self.view, smoothing=levels[(levels.index(self.view.smoothing) + 1) % len(levels)]))

    def _zoom(self, factor: float) -> None:
        if self.deck.snapshot is not None:
            self._look(zoomed(self.deck.snapshot, self.view, factor))

    def do_zoom_in(self) -> None:
        """Half as much of the curve."""
        self._zoom(0.5)

    def do_zoom_out(self) -> None:
        """Twice as much."""
        self._zoom(2.0)

    def do_whole(self) -> None:
        """All of it, no crosshair."""
        self._look(replace(self.view, span=None, end=None, cursor=None))

    def _cross(self, columns: int) -> None:
        if self.deck.snapshot is not None:
            width = max(10, self.query_one("#loss", LineChart).size.width - 8)
            self._look(moved(self.deck.snapshot, self.view, columns / width))

    def do_left(self) -> None:
        """The crosshair to the left."""
        self._cross(-1)

    def do_right(self) -> None:
        """The crosshair to the right."""
        self._cross(1)

    def do_far_left(self) -> None:
        """The crosshair far to the left."""
        self._cross(-10)

    def do_far_right(self) -> None:
        """The crosshair far to the right."""
        self._cross(10)
