"""The data pane: what was recognised, kept and dropped, and examples with the trained tokens marked.

Opened over the profile screen with `d`. A worker reads the data, the only process that loads a
tokenizer; closing the pane ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content

from engine.api import fit, profiles, runs
from engine.api.runs import Event
from engine.errors import EngineError
from tui.background import Lane
from tui.documents import document
from tui.profile.data_view import examples_content, report_content, trouble_content
from tui.text import bar, line, safe
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Ends, Line, Rule

EXAMPLE_ROWS = 6
Told = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class DataSeen:
    """What a worker found in a profile's data. `settings`: all that these depend on."""

    settings: str
    preview: dict[str, Any]
    report: dict[str, Any] | None = None


class Closed(Exception):
    """Nobody waits for the answer any more."""


def read_data(text: str, path: Path, told: Told) -> dict[str, Any]:
    """What the worker finds in the data of a profile's text; it tells examples before. Raises EngineError."""
    resolved = profiles.resolve_profile(document.loaded(text, path), fit.probe_machine(processes=False))
    return runs.run_job({"job": "data_check", "run_json": resolved.to_run_json(), "rows": EXAMPLE_ROWS}, told)


class DataScreen(Modal[DataSeen | None]):
    """What becomes of the data. Closes with its figures, for the time estimate."""

    BINDINGS: ClassVar = [("escape,q", "close", "close"), ("r", "read", "read again")]

    def __init__(self, name: str, text: str, path: Path, settings: str, seen: DataSeen | None = None) -> None:
        super().__init__()
        self._profile, self._toml, self._path, self._settings = name, text, path, settings
        self._seen = seen if seen is not None and seen.settings == settings else None
        self._lane = Lane(self, "data")
        self._given_up = False

    def compose(self) -> ComposeResult:
        """Headline, report above examples, keys."""
        yield Ends(id="data-head")
        yield Rule()
        with VerticalScroll(id="data-body"):
            yield Line(id="data-report")
            yield Line(id="data-examples")
        yield Line(line(("esc", "bold $accent"), " close  ", ("r", "bold $accent"), " read again"), id="data-keys")

    def on_mount(self) -> None:
        """Show what is known, or ask a worker."""
        self.query_one(VerticalScroll).focus()
        if self._seen is not None and self._seen.report is not None:
            self._show_examples(self._seen.preview)
            self._checked({"report": self._seen.report})
        else:
            self.action_read()

    def on_unmount(self) -> None:
        """The worker may end."""
        self._given_up = True

    def action_close(self) -> None:
        """Go back with what was found."""
        self._given_up = True
        self.dismiss(self._seen)

    def action_read(self) -> None:
        """Read the data, first a few rows, then all."""
        self._status("starting a worker …")
        self._lane.submit(partial(read_data, self._toml, self._path, self._told), self._checked, self._failed)

    def _told(self, event: Event) -> None:
        """In the job's thread: pass progress on, end the worker when nobody waits."""
        if self._given_up:
            raise Closed
        self.call_later(self._show_event, event)

    def _show_event(self, event: Event) -> None:
        done, total = event.get("done"), event.get("total")
        if event["type"] == "progress" and isinstance(done, int) and isinstance(total, int) and total > 0:
            cells = bar(done / total, 16)
            self.query_one("#data-head", Ends).show(self._title, [*cells, f"  {done:,} of {total:,} rows"])
        elif event["type"] == "preview":
            self._seen = DataSeen(self._settings, event)
            self._show_examples(event)
        elif event["type"] == "phase":
            self._status(safe(event.get("detail") or event.get("name") or "", 60))

    @property
    def _title(self) -> list[str | tuple[str, str]]:
        return [("data ", "dim"), (safe(self._profile, 50), "bold")]

    def _status(self, text: str, style: str = "dim") -> None:
        self.query_one("#data-head", Ends).show(self._title, [(text, style)])

    def _show_examples(self, preview: dict[str, Any]) -> None:
        self.query_one("#data-examples", Line).show(examples_content(preview))

    def _checked(self, result: dict[str, Any]) -> None:
        report = result["report"]
        if self._seen is not None:
            self._seen = DataSeen(self._settings, self._seen.preview, report)
        self.query_one("#data-report", Line).show(Content("\n").join([report_content(report), Content("")]))
        self._status(f"{report['train']['rows']:,} rows to train on")

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Closed):
            return
        if not isinstance(error, EngineError):
            raise error
        self._status("cannot be used", "$error")
        self.query_one("#data-report", Line).show(Content("\n").join([trouble_content(error), Content("")]))
