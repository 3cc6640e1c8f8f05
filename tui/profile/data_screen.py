"""The data pane: rows by length, what was recognised, kept and dropped, examples with the trained tokens marked.

Opened over the profile screen with `d`. Workers read the data, the only processes that load a tokenizer; closing the
pane ends them. Not here: the picture of the lengths (`lengths_pane.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content

from engine.api import fit, profiles, runs
from engine.api.runs import Event
from engine.errors import EngineError
from tui.background import Lane
from tui.documents import document
from tui.profile.data_view import examples_content, keys_line, report_content, trouble_content
from tui.profile.lengths_pane import LengthsPane
from tui.text import age, bar, safe
from tui.widgets.dialogs import Ask, Modal
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.panes import notify

EXAMPLE_ROWS = 6
Told = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class DataSeen:
    """What a worker found in a profile's data. `settings`: all that these depend on."""

    settings: str
    preview: dict[str, Any]
    report: dict[str, Any] | None = None
    lengths: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DataAnswer:
    """What the pane closes with: what was found, and a `max_length` that was chosen."""

    seen: DataSeen | None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are looked for: from one on, with some words."""

    row: int = 1
    words: str = ""


class Closed(Exception):
    """Nobody waits for the answer any more."""


def run_data_job(text: str, path: Path, told: Told, job: str, **params: Any) -> dict[str, Any]:
    """What a worker finds in the data of a profile's text. Raises EngineError."""
    resolved = profiles.resolve_profile(document.loaded(text, path), fit.probe_machine(processes=False))
    return runs.run_job({"job": job, "run_json": resolved.to_run_json(), "rows": EXAMPLE_ROWS, **params}, told)


class DataBody(VerticalScroll, inherit_bindings=False):
    """Report and examples. They scroll up and down only: left and right belong to the line."""

    BINDINGS: ClassVar = [
        Binding("up,k", "scroll_up", show=False),
        Binding("down,j", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("end,G", "scroll_end", show=False),
    ]


class DataScreen(Modal[DataAnswer]):
    """What becomes of the data, and what another `max_length` would make of them."""

    BINDINGS: ClassVar = [
        ("escape,q", "close", "close"),
        ("r", "read", "read again"),
        ("enter", "take", "take the length"),
        Binding("left,h", "line(-1)", show=False),
        Binding("right,l", "line(1)", show=False),
        Binding("ctrl+left,left_square_bracket", "leap(-1)", show=False),
        Binding("ctrl+right,right_square_bracket", "leap(1)", show=False),
        ("g", "go", "row"),
        ("slash", "search", "search"),
        ("n", "next", "next rows"),
    ]

    def __init__(self, name: str, text: str, path: Path, settings: str, seen: DataSeen | None = None) -> None:
        super().__init__()
        self._profile, self._toml, self._path, self._settings = name, text, path, settings
        self._seen = seen if seen is not None and seen.settings == settings else None
        self._wanted = Wanted()
        self._shown: dict[str, Any] = {}
        """The examples that are seen: the first ones, or those that were looked for."""
        self._lane, self._rows_lane = Lane(self, "data"), Lane(self, "rows")
        self._given_up = False
        self._doing, self._began = "", 0.0
        """What a worker does that tells no progress, and since when."""

    def compose(self) -> ComposeResult:
        """Headline, lengths, report above examples, keys."""
        yield Ends(id="data-head")
        yield Rule()
        yield LengthsPane()
        with DataBody(id="data-body"):
            yield Line(id="data-report")
            yield Line(id="data-examples")
        yield Drawn(id="data-keys")

    def on_mount(self) -> None:
        """Show what is known, or ask a worker."""
        self.query_one(DataBody).focus()
        self.set_interval(1.0, self._show_clock)
        self._show_keys()
        if self._seen is not None and self._seen.report is not None:
            self._show_examples(self._seen.preview)
            self._checked({"report": self._seen.report, "lengths": self._seen.lengths})
        else:
            self.action_read()

    def on_unmount(self) -> None:
        """The workers may end."""
        self._given_up = True

    def action_close(self) -> None:
        """Go back with what was found."""
        self._leave(None)

    def _leave(self, max_length: int | None) -> None:
        self._given_up = True
        self.dismiss(DataAnswer(self._seen, max_length))

    # The line

    @property
    def _lengths(self) -> LengthsPane:
        return self.query_one(LengthsPane)

    def action_line(self, step: int) -> None:
        """Move the line."""
        self._lengths.move(step)

    def action_leap(self, step: int) -> None:
        """Move the line to the next power of two."""
        self._lengths.leap(step)

    def action_take(self) -> None:
        """Close with the length under the line."""
        chosen = self._lengths.chosen
        if chosen is not None:
            self._leave(chosen)
        elif self._lengths.choices is not None:
            notify(self, "the line stands on max_length already: the arrows move it")

    # Reading

    def action_read(self) -> None:
        """Read the data, first a few rows, then all."""
        self._wanted = Wanted()
        self._wait("starting a worker")
        work = partial(run_data_job, self._toml, self._path, self._told, "data_check")
        self._lane.submit(work, self._checked, self._failed)

    def _told(self, event: Event) -> None:
        """In the job's thread: pass progress on, end the worker when nobody waits."""
        if self._given_up:
            raise Closed
        self.call_later(self._show_event, event)

    def _show_event(self, event: Event) -> None:
        done, total = event.get("done"), event.get("total")
        if event["type"] == "progress" and isinstance(done, int) and isinstance(total, int) and total > 0:
            cells = bar(done / total, 16)
            self._doing = ""
            self.query_one("#data-head", Ends).show(self._title, [*cells, f"  {done:,} of {total:,} rows"])
        elif event["type"] == "preview":
            self._seen = DataSeen(self._settings, event)
            if self._wanted == Wanted():
                self._show_examples(event)
        elif event["type"] == "phase":
            self._wait(safe(event.get("detail") or event.get("name") or "", 60))

    @property
    def _title(self) -> list[str | tuple[str, str]]:
        return [("data ", "dim"), (safe(self._profile, 50), "bold")]

    def _wait(self, doing: str) -> None:
        self._doing, self._began = doing, time.monotonic()
        self._show_clock()

    def _show_clock(self) -> None:
        if self._doing:
            self._status(f"{self._doing} … {age(time.monotonic() - self._began)}", waits=True)

    def _status(self, text: str, style: str = "dim", *, waits: bool = False) -> None:
        self._doing = self._doing if waits else ""
        self.query_one("#data-head", Ends).show(self._title, [(text, style)])

    def _show_keys(self) -> None:
        self.query_one("#data-keys", Drawn).show(keys_line, self._lengths.choices is not None, bool(self._wanted.words))

    def _show_examples(self, preview: dict[str, Any]) -> None:
        self._shown = preview
        shown = examples_content(preview, self._wanted.row, self._wanted.words)
        self.query_one("#data-examples", Line).show(shown)

    def _checked(self, result: dict[str, Any]) -> None:
        report = result["report"]
        if self._seen is not None:
            self._seen = DataSeen(self._settings, self._seen.preview, report, result.get("lengths"))
        self._lengths.show(profiles.choices_of(result.get("lengths")))
        self.query_one("#data-report", Line).show(Content("\n").join([report_content(report), Content("")]))
        self._status(f"{report['train']['rows']:,} rows to train on")
        self._show_keys()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Closed):
            return
        if not isinstance(error, EngineError):
            raise error
        self._status("cannot be used", "$error")
        self.query_one("#data-report", Line).show(Content("\n").join([trouble_content(error), Content("")]))

    # Looking for rows

    def action_go(self) -> None:
        """Ask for a row, and show it with those behind it."""

        def check(text: str) -> str:
            return "" if text.isascii() and text.isdigit() and int(text) > 0 else "give the number of a row, from 1 on"

        ask = Ask("Go to row", "its number in the file, counted from 1", str(self._wanted.row), check)
        self.app.push_screen(ask, lambda text: self._look(Wanted(int(text), self._wanted.words)) if text else None)

    def action_search(self) -> None:
        """Ask for words, and show the first rows that have them."""
        ask = Ask("Search in rows", "words that a row has, in capitals or not; empty = all rows", self._wanted.words)
        self.app.push_screen(ask, lambda text: self._look(Wanted(1, text)) if text is not None else None)

    def action_next(self) -> None:
        """The rows behind those that are shown."""
        shown = self._shown.get("documents", [])
        if shown:
            self._look(Wanted(max(int(one["row"]) for one in shown) + 1, self._wanted.words))

    def _look(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._wait("looking for rows")
        params = {"first_row": wanted.row, "words": wanted.words}
        work = partial(run_data_job, self._toml, self._path, self._heard, "data_preview", **params)
        self._rows_lane.submit(work, partial(self._found, wanted), self._not_found)

    def _heard(self, event: Event) -> None:
        if self._given_up:
            raise Closed

    def _found(self, wanted: Wanted, preview: dict[str, Any]) -> None:
        if wanted != self._wanted:
            return  # the data are read anew
        self._status(f"from row {self._wanted.row:,}" if preview["documents"] else "no such row", "dim")
        self._show_examples(preview)
        self._show_keys()
        self.call_after_refresh(self._to_examples)

    def _to_examples(self) -> None:
        self.query_one(DataBody).scroll_to_widget(self.query_one("#data-examples"), animate=False, top=True)

    def _not_found(self, error: Exception) -> None:
        if isinstance(error, Closed):
            return
        if not isinstance(error, EngineError):
            raise error
        self._status(safe(error.message, 200), "$warning")
