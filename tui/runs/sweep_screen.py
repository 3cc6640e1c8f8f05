"""A sweep as pictures: the metric by each setting, and every trial. Opened over screen 4."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from engine.api import sweeps
from engine.api.runs import Run
from engine.api.sweeps import SweepPicture
from engine.errors import EngineError
from tui.background import Poll
from tui.reading.snapshot import short_name
from tui.runs.sweep_view import heading, legend, picture
from tui.text import line, safe, trouble
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Ends, Line, Rule
from tui.widgets.panes import notify

REFRESH_S = 2.0


class SweepScreen(Modal[None]):
    """Charts and trials of one sweep, read again every two seconds."""

    BINDINGS: ClassVar = [
        ("escape,q,p", "close", "close"),
    ]

    def __init__(self, sweep: Run) -> None:
        super().__init__()
        self._sweep = sweep
        self._found: SweepPicture | None = None
        self._poll = Poll(self, "sweep", REFRESH_S, partial(sweeps.sweep_picture, sweep), self._take, self._failed)

    def compose(self) -> ComposeResult:
        """Headline, legend, charts above trials, keys."""
        yield Ends(id="sweep-head")
        yield Rule()
        yield Line(id="sweep-legend")
        with VerticalScroll(id="sweep-body"):
            yield Line(id="sweep-picture")
        yield Line(line(("esc", "bold $accent"), " close"), id="sweep-keys")

    def on_mount(self) -> None:
        """Read at once, then every two seconds."""
        self.set_focus(self.query_one(VerticalScroll))
        self._show()
        self._poll.start()

    def on_resize(self, event: events.Resize) -> None:
        """Charts are laid out for the width."""
        self.call_after_refresh(self._show)

    def _take(self, found: SweepPicture) -> None:
        if found != self._found:
            self._found = found
            self._show()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        notify(self, trouble(error), error=True)
        self.dismiss(None)

    def _show(self) -> None:
        known = (self._found,) if self._found is not None else ()
        self.query_one("#sweep-head", Ends).show(*heading(known, short_name(safe(self._sweep.id, 80))))
        for found in known:
            width, height = self.app.size
            self.query_one("#sweep-legend", Line).show(legend(found))
            self.query_one("#sweep-picture", Line).show(picture(found, width - 4, height), wraps=True)

    def action_close(self) -> None:
        """Back to the list."""
        self.dismiss(None)
