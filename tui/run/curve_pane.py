"""The run screen's curves: which one is large, how smooth, how close, and where the crosshair stands; or all, small.

The arithmetic is in `curves.py`, what is drawn in `curve_data.py`, the run that lies under this one in `references.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message

from engine.api.runs import Run
from tui.charts.widgets import ChartGrid, LineChart
from tui.reading.snapshot import RunSnapshot
from tui.run.curve_data import chart_data, grid_data, title_of
from tui.run.curves import (
    GRADIENT,
    KINDS,
    LOSS,
    MEMORY,
    RATE,
    SMOOTHING,
    SPEED,
    CurveView,
    extent,
    kinds,
    moved,
    over_steps,
    window,
    zoomed,
)
from tui.run.reference import difference
from tui.run.references import References
from tui.text import Part, line
from tui.widgets.lines import Drawn

SMALL = (RATE, SPEED, MEMORY, GRADIENT)
TITLED_HEIGHT = 24
"""Rows of the screen from which the curve has a title even when nothing about it was changed."""
AXIS_COLUMNS = 8
WIDE = 70
"""Columns from which the name of the reference is told in full."""


class CurvePane(Vertical):
    """One large curve that keys move through, and three small ones where the screen is tall; or all curves, small."""

    class Changed(Message):
        """Another part of the curve is shown, or the crosshair moved."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.view = CurveView()
        self.references = References(self, self._redraw)
        self._snapshot: RunSnapshot | None = None
        self._from_grid = False
        """Whether the large curve was opened from all of them."""

    def compose(self) -> ComposeResult:
        """The large chart above the small ones, and all charts in their place."""
        yield LineChart(id="loss")
        with Horizontal(id="small"):
            yield from (LineChart(id=f"small-{index}") for index in range(3))
        yield Drawn(id="grid-head")
        yield ChartGrid(id="grid")

    @property
    def in_grid(self) -> bool:
        """Whether all curves are shown."""
        return self.screen.has_class("-grid")

    @property
    def reading_view(self) -> CurveView:
        """The view whose values stand in the line above: all curves are over steps, memory too."""
        return over_steps(self._snapshot, self.view) if self.in_grid and self._snapshot is not None else self.view

    @property
    def window(self) -> tuple[float, float] | None:
        """Steps to read at full resolution; None for the whole curve, and for memory, which is drawn over time."""
        view = self.reading_view
        return None if self._snapshot is None or view.kind == MEMORY else window(self._snapshot, view)

    @property
    def zoomed(self) -> bool:
        """Whether there is a crosshair or less than the whole curve."""
        return self.view.cursor is not None or self.view.span is not None

    def reset(self, run: Run | None) -> None:
        """Prepare for another run: the whole of the same kind of curve."""
        kind = self.view.kind if self.view.kind in KINDS else LOSS  # another run may have no such figures
        self.view, self._snapshot = replace(self.view.whole, kind=kind), None
        self.references.follow(run)

    def show(self, snapshot: RunSnapshot) -> None:
        """Draw the curves of a snapshot."""
        self._snapshot = snapshot
        if self.in_grid:
            self._draw_grid(snapshot)
            return
        self._draw(snapshot)
        for index, kind in enumerate([kind for kind in SMALL if kind != self.view.kind][:3]):
            view = CurveView(kind)
            data = chart_data(snapshot, view, title_of(snapshot, view), self.references.current)
            self.query_one(f"#small-{index}", LineChart).show(data)

    def _draw(self, snapshot: RunSnapshot) -> None:
        reference = self.references.current
        bare = self.screen.size.height < TITLED_HEIGHT and self.view == CurveView() and reference is None
        words = self._difference(snapshot) if self.view.kind != MEMORY else ""
        title = () if bare else title_of(snapshot, self.view, words)
        self.query_one("#loss", LineChart).show(chart_data(snapshot, self.view, title, reference))

    def _draw_grid(self, snapshot: RunSnapshot) -> None:
        cells = grid_data(snapshot, self.view, self.references.current)
        names = [kind for kind, _ in cells]
        chosen = names.index(self.view.kind) if self.view.kind in names else 0
        grid = self.query_one(ChartGrid)
        grid.show([data for _, data in cells], chosen)
        words = self._difference(snapshot)
        self.query_one("#grid-head", Drawn).show(grid_head, self.view, len(cells), grid.page_note, words)

    def _difference(self, snapshot: RunSnapshot) -> str:
        """How the run stands to its reference; a long name is cut in its middle where there is little room."""
        reference, wide = self.references.current, self.size.width >= WIDE
        return difference(snapshot, reference, self.view.cursor, 60 if wide else 16) if reference else ""

    def _redraw(self) -> None:
        if self._snapshot is not None:
            self.show(self._snapshot)
            self.post_message(self.Changed())

    def _change(self, view: CurveView) -> None:
        same, self.view = view.kind == self.view.kind, view
        if same and not self.in_grid and self._snapshot is not None:
            self._draw(self._snapshot)  # the small charts have no crosshair
            self.post_message(self.Changed())
        else:
            self._redraw()

    def next_kind(self) -> None:
        """Show the next curve that has points."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        found = [kind for kind in kinds(snapshot.curves) if self.in_grid or extent(snapshot, CurveView(kind))]
        place = found.index(self.view.kind) if self.view.kind in found else -1
        if found:
            self._choose(found[(place + 1) % len(found)])

    def _choose(self, kind: str) -> None:
        """Memory over time begins anew, but among all curves it is drawn over steps as they are."""
        self._change(replace(self.view, kind=kind) if self.in_grid else self.view.following(kind))

    def next_smoothing(self) -> None:
        """Smooth more, or not at all after the strongest smoothing."""
        levels = list(SMOOTHING)
        self._change(replace(self.view, smoothing=levels[(levels.index(self.view.smoothing) + 1) % len(levels)]))

    def toggle_powers(self) -> None:
        """Values as powers of ten, or plainly."""
        self._change(replace(self.view, powers=not self.view.powers))

    # All curves

    def toggle_grid(self) -> None:
        """All curves in place of the large one; of one that was opened from there, back to all."""
        self._set_grid(not self.in_grid)

    def leave_grid(self) -> None:
        """Back to the large curve, drawn as it is now."""
        if self.in_grid:
            self._set_grid(False)

    def _set_grid(self, shown: bool) -> None:
        self._from_grid = False
        if shown and self.view.kind == MEMORY:
            self.view = self.view.whole
        self.screen.remove_class("-zoom", "-log")
        self.screen.set_class(shown, "-grid")
        if not shown and self.view.kind == MEMORY:
            self.view = self.view.whole  # seconds from now on
        self._take_keyboard()
        self._redraw()
        self.call_after_refresh(self._redraw)  # the room for charts is another now

    def _take_keyboard(self) -> None:
        """All curves are chosen by keys; otherwise keys scroll the log."""
        if self.in_grid:
            self.screen.set_focus(self.query_one(ChartGrid))
        elif self.screen.focused is self.query_one(ChartGrid):
            self.screen.set_focus(self.screen.query_one("#log"))

    @on(ChartGrid.Chosen)
    def _on_chosen(self, event: ChartGrid.Chosen) -> None:
        event.stop()
        if self._snapshot is None:
            return
        kind = kinds(self._snapshot.curves)[event.index]
        self._choose(kind)
        if event.opened:
            self._set_grid(False)
            self._from_grid = True
            self.screen.add_class("-zoom")

    def step_back(self) -> bool:
        """Leave the innermost of: a curve opened from all of them, the crosshair or a zoom, all curves."""
        if self._from_grid and self.screen.has_class("-zoom"):
            self._set_grid(True)
        elif self.zoomed:
            self.show_whole()
        elif self.in_grid:
            self._set_grid(False)
        else:
            return False
        return True

    # Closer, wider, along the curve

    def zoom_in(self) -> None:
        """Show half as much of the curve."""
        self._move(lambda snapshot, view: zoomed(snapshot, view, 0.5))

    def zoom_out(self) -> None:
        """Show twice as much of the curve."""
        self._move(lambda snapshot, view: zoomed(snapshot, view, 2.0))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel over the curve shows less of it."""
        self.zoom_in()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """And more of it the other way."""
        self.zoom_out()

    def show_whole(self) -> None:
        """Show all of the curve, without a crosshair."""
        self._change(self.view.whole)

    def left(self) -> None:
        """Move the crosshair one column to the left."""
        self._step(-1)

    def right(self) -> None:
        """Move the crosshair one column to the right."""
        self._step(1)

    def far_left(self) -> None:
        """Move the crosshair ten columns to the left."""
        self._step(-10)

    def far_right(self) -> None:
        """Move the crosshair ten columns to the right."""
        self._step(10)

    def _step(self, columns: int) -> None:
        width = self.query_one("#loss", LineChart).size.width
        if self.in_grid:
            grid = self.query_one(ChartGrid)
            width = grid.size.width // grid.shape.columns
        share = columns / max(10, width - AXIS_COLUMNS)
        self._move(lambda snapshot, view: moved(snapshot, view, share))

    def _move(self, change: Callable[[RunSnapshot, CurveView], CurveView]) -> None:
        if self._snapshot is not None:
            self._change(replace(change(self._snapshot, self.reading_view), kind=self.view.kind))


def grid_head(view: CurveView, count: int, page: str, words: str, width: int) -> Content:
    """What is above all curves: how many, how they are looked at, and how they stand to the reference."""
    if not count:
        return Content.styled("no curve has points yet", "dim")
    notes = [page, "log" if view.powers else "", f"zoom {view.span:,.0f} steps" if view.span is not None else ""]
    parts: list[Part] = [(" · ".join([f"{count} curves", *(note for note in notes if note)]), "dim")]
    parts += [(f" · {words}", "bold")] if words else []
    return line(*parts, (" · enter opens ▸", "dim")).truncate(width, ellipsis=True)
