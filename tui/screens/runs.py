"""Screen 4: all runs. Attach, resume, stop, delete. Read again every two seconds while it is seen."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer
from textual.widgets import OptionList

from engine import api
from engine.errors import EngineError
from tui.background import Lane
from tui.commands import LIVE_STATES, bindings
from tui.runlist import RunList, RunRow, heading, run_row, short_id
from tui.screens.base import DeckScreen
from tui.screens.modals import Confirm, Reader
from tui.text import Part, line, safe, short_path
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

REFRESH_S = 2.0


class RunsScreen(DeckScreen):
    """See the module."""

    NAME = "runs"
    BINDINGS: ClassVar = bindings("runs")

    def __init__(self) -> None:
        super().__init__()
        self._list = RunList()
        self._lane = Lane(self, "runs")
        self._resumer = Lane(self, "resume")
        self._rows: dict[str, RunRow] = {}
        self._timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """The list, and what is known of the run under the cursor."""
        yield Ends(id="top")
        yield Rule()
        yield Drawn(id="runs-heading")
        yield Rows(id="runs")
        yield Rule()
        yield Line(id="about")

    def on_mount(self) -> None:
        """Read at once, then every two seconds."""
        self.query_one(Rows).focus()
        self._timer = self.set_interval(REFRESH_S, self._read)
        self.call_after_refresh(self._read)

    def on_screen_resume(self) -> None:
        """Somebody looks."""
        if self._timer:
            self._timer.resume()
            self._read()

    def on_screen_suspend(self) -> None:
        """Nobody does."""
        if self._timer:
            self._timer.pause()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        super().on_resize(event)
        self.call_after_refresh(self._show)

    def _read(self) -> None:
        if not self._lane.busy:
            self._lane.submit(self._list.read, self._seen, self._failed)

    def _seen(self, rows: tuple[RunRow, ...]) -> None:
        self._rows = {row.run.id: row for row in rows}
        self._show()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.say(safe(error, 400), error=True)

    def _show(self) -> None:
        rows = self.query_one("#runs", Rows)
        now = time.time()
        living = sum(row.state in LIVE_STATES for row in self._rows.values())
        count: list[Part] = [(f"{len(self._rows)} runs, {living} alive", "dim")]
        self.query_one("#top", Ends).show(self.tabs(), count)
        rows.set_rows([Row(row.run.id, partial(run_row, row, now)) for row in self._rows.values()])
        self.query_one("#runs-heading", Drawn).show(heading if self._rows else _empty)
        self._moved()

    @on(OptionList.OptionHighlighted, "#runs")
    def _moved(self) -> None:
        current = self.query_one("#runs", Rows).current
        row = self._rows.get(current.key) if current else None
        changed = row != self.deck.row
        self.deck.row = row
        self.query_one("#about", Line).show(_about(row))
        if changed:
            self.refresh_keys()

    @on(OptionList.OptionSelected, "#runs")
    def _chosen(self) -> None:
        self.deck_app.action_command("attach")

    # Commands

    def do_attach(self) -> None:
        """Show the run."""
        if self.deck.row:
            self.deck_app.attach(self.deck.row.run)

    def do_resume(self) -> None:
        """Start a worker that goes on from the newest checkpoint, and show it."""
        row = self.deck.row
        if row is not None and not self._resumer.busy:
            self.say(f"resuming {short_id(row)} …")
            offset = row.run.events_path.stat().st_size if row.run.events_path.exists() else 0
            self._resumer.submit(partial(api.resume_run, row.run), partial(self._resumed, row, offset), self._failed)

    def _resumed(self, row: RunRow, offset: int, process: Any) -> None:
        self.deck_app.attach(row.run, process, offset)

    def do_halt(self) -> None:
        """Ask, then stop the run under the cursor."""
        row = self.deck.row
        if row is None:
            return
        text = f"Stop {short_id(row)}? It saves a checkpoint after this step, then ends. It can be resumed."
        self.app.push_screen(Confirm(text, "stop it"), partial(self._halt, row))

    def _halt(self, row: RunRow, yes: bool | None) -> None:
        if yes:
            try:
                api.request(row.run.path, "stop")
            except OSError as error:
                self._failed(error)
                return
            self.say("asked to stop")

    def do_delete(self) -> None:
        """Ask, then delete."""
        row = self.deck.row
        if row is None:
            return
        text = f"Delete {short_id(row)} with its checkpoints, adapter and exports? This cannot be undone."
        self.app.push_screen(Confirm(text, "delete it"), partial(self._delete, row))

    def _delete(self, row: RunRow, yes: bool | None) -> None:
        if not yes:
            return
        try:
            api.remove_run(row.run)
        except (EngineError, OSError) as error:
            self._failed(error)
            return
        self.say(f"deleted {short_id(row)}")
        self._rows.pop(row.run.id, None)
        self._show()

    def do_error(self) -> None:
        """Why the run failed."""
        row = self.deck.row
        if row is not None:
            text = "\n".join([*row.error, "", f"worker's log: {short_path(row.run.path / 'worker.log')}"])
            self.app.push_screen(Reader(f"{short_id(row)} {row.state}", Content(text)))


def _about(row: RunRow | None) -> Content:
    if row is None:
        return Content("")
    parts: list[Part] = [(row.facts.run_id, "bold"), (f"  {row.facts.how} {row.facts.device}\n", "dim")]
    parts.append((f"{short_path(row.run.path)}\n", "dim"))
    parts += [(f"{text}\n", "$error") for text in row.error[:3]]
    return line(*parts)


def _empty(width: int) -> Content:
    return Content.styled("  no runs yet: enter on a model of screen 1, then ^r", "dim")
