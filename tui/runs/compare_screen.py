"""The marked runs beside each other: curves in one chart, numbers, settings that differ. Opened from screen 4."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import Poll
from tui.charts.overlay import Series
from tui.charts.widgets import ChartGrid, OverlayChart
from tui.frame.commands import bindings
from tui.frame.copying import copy_and_tell
from tui.frame.screen import DeckScreen
from tui.runs.commands import COMPARE_COMMANDS, Selection
from tui.runs.compare_view import cells, legend, table
from tui.runs.comparing import METRICS, Compared, Comparer, metrics_of
from tui.text import line, trouble
from tui.widgets.lines import Drawn, Line, Rule

REFRESH_S = 2.0


class CompareScreen(DeckScreen):
    """Legend, curves and table of the marked runs, read again every two seconds while it is seen."""

    NAME = "compare"
    BINDINGS: ClassVar = bindings(COMPARE_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self._comparer = Comparer()
        self._poll = Poll(self, "compare", REFRESH_S, self._read, self._take, self._failed)
        self._metric = METRICS[0]
        self._all_settings, self._log_scale = False, False
        self.runs: tuple[Compared, ...] = ()

    @property
    def _marked(self) -> tuple[Run, ...]:
        return self.deck.of(Selection).marked

    def compose_body(self) -> ComposeResult:
        """Legend, chart and table: under each other, or beside each other where there is room."""
        yield Drawn(id="legend")
        yield Rule()
        with Vertical(id="pair"):
            yield OverlayChart(id="curves")
            yield Rule(id="pair-rule")
            with VerticalScroll(id="tables"):
                yield Drawn(id="table")
        yield ChartGrid(id="all-curves")
        yield Line(id="twin")

    def on_mount(self) -> None:
        """Read at once, then every two seconds."""
        self.query_one("#tables").focus()
        self._poll.start()

    def on_screen_resume(self) -> None:
        """Read again: other runs may be marked."""
        self._poll.resume()

    def on_screen_suspend(self) -> None:
        """Rest while another screen is shown."""
        self._poll.pause()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width. Textual calls `DeckScreen.on_resize` by itself."""
        self.call_after_refresh(self._show)

    def _read(self) -> tuple[Compared, ...]:
        return self._comparer.read(self._marked)

    def _take(self, runs: tuple[Compared, ...]) -> None:
        self.runs = runs
        self._show()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.say(trouble(error), error=True)

    def _show(self) -> None:
        with self.app.batch_update():
            if not self.runs:
                text = "reading …" if self._marked else "no run is marked: space marks one on screen 4"
                self.query_one("#legend", Drawn).show(_dim, text)
                return
            self.query_one("#legend", Drawn).show(
                legend, self.runs, self._metric + (", powers of ten" if self._log_scale else "")
            )
            self._show_grid()
            curves = [one.curves.get(self._metric, ()) for one in self.runs]
            series = tuple(
                Series(one.letter, place, curve)
                for place, (one, curve) in enumerate(zip(self.runs, curves, strict=True))
            )
            with_points = tuple(one for one in series if one.points)
            self.query_one(OverlayChart).show(
                with_points, self._log_scale, f"no run has a curve of its {self._metric}: m shows another"
            )
            tables = self.query_one("#table", Drawn)
            tables.styles.height = table(self.runs, self._all_settings, 80).plain.count("\n") + 1
            tables.show(table, self.runs, self._all_settings)
            self.query_one("#twin", Line).show(line((f"$ {self.twin()}", "dim")))

    def _show_grid(self) -> None:
        if self.has_class("-grid"):
            found = cells(self.runs, self._metric, self._log_scale)
            names = [name for name, _ in found]
            chosen = names.index(self._metric) if self._metric in names else 0
            self.query_one(ChartGrid).show([data for _, data in found], chosen)

    @on(ChartGrid.Chosen)
    def _on_chosen(self, event: ChartGrid.Chosen) -> None:
        self._metric = cells(self.runs, self._metric, self._log_scale)[event.index][0]
        if event.opened:
            self.do_zoom_curve()
        self._show()

    def do_all_metrics(self) -> None:
        """All curves as small charts, and back; of one that was opened from there, back to all."""
        self.set_class(self.has_class("-zoom") or not self.has_class("-grid"), "-grid")
        self.remove_class("-zoom")
        self._take_keyboard()

    def _take_keyboard(self) -> None:
        """Keys choose among all curves; otherwise they scroll the tables."""
        choosing = self.has_class("-grid") and not self.has_class("-zoom")
        self.set_focus(self.query_one("#all-curves" if choosing else "#tables"))
        self.call_after_refresh(self._show)

    def twin(self) -> str:
        """The shell command that shows one of them; there is none for several."""
        return f"engine runs show {self._marked[0].id} --json" if self._marked else "engine runs list"

    def step_back(self) -> bool:
        """Out of the zoom or all curves, else to the runs."""
        if self.has_class("-zoom"):
            self.do_zoom_curve()
        elif self.has_class("-grid"):
            self.do_all_metrics()
        else:
            self.app.switch_mode("runs")
        return True

    def do_curve(self) -> None:
        """The next curve."""
        found = metrics_of(self.runs)
        place = found.index(self._metric) if self._metric in found else -1
        self._metric = found[(place + 1) % len(found)]
        self._show()

    def do_powers(self) -> None:
        """Powers of ten, or plain values."""
        self._log_scale = not self._log_scale
        self._show()

    def do_zoom_curve(self) -> None:
        """The curves on the whole screen, and back."""
        self.toggle_class("-zoom")
        self._take_keyboard()

    def do_all_settings(self) -> None:
        """All settings, or only those that differ."""
        self._all_settings = not self._all_settings
        self._show()

    def do_copy_table(self) -> None:
        """Numbers and settings, nothing cut."""
        if not self.runs:
            return
        text = table(self.runs, self._all_settings, 80 + 60 * len(self.runs)).plain
        rows = "\n".join(row.rstrip() for row in text.splitlines()) + "\n"
        copy_and_tell(self, rows, self._marked[0].path / "deck-compare.txt")


def _dim(text: str, width: int) -> Content:
    return Content.styled(text, "dim").truncate(width, ellipsis=True)
