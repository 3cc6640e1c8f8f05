"""Screen 3: a run, live. Is it learning, does it fit, when is it done?

The screen draws the newest `RunSnapshot`; the run goes on without it. It puts panes together: `CurvePane`, `LogPane`
and `RemedyPane` keep their own state and say with messages what changed; `Stage` shows which of them there is to see;
`RunFollower` reads the run's events. The texts are in `view.py`.
"""

from __future__ import annotations

import time
from functools import partialmethod
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content

from engine.api.runs import Run
from tui.frame.commands import bindings
from tui.frame.screen import DeckScreen
from tui.overview.opening import open_overview
from tui.reading.snapshot import RunSnapshot
from tui.run import requests
from tui.run.commands import RUN_COMMANDS
from tui.run.cures import with_cure
from tui.run.curve_data import reading
from tui.run.curve_pane import CurvePane
from tui.run.enlarging import CURVE, LOG, enlarge, shrink
from tui.run.follower import RunFollower, SnapshotMessage, StartFailed, WorkerStarted
from tui.run.live_answers import LiveAnswers
from tui.run.log_pane import LogPane
from tui.run.remedy_pane import RemedyPane
from tui.run.resuming import Resumer
from tui.run.stage import Stage
from tui.run.view import (
    concerns_text,
    headline,
    numbers,
    prepares,
    status,
    status_notes,
)
from tui.widgets.lines import Drawn, Ends, Rule
from tui.widgets.panes import forward

NO_RUN = "no run is attached: ^r on 2 starts one, 4 lists them"


HERE = Content(
    "The run goes on without this window; q leaves it alone.\n"
    "curve   t chooses which, s how smooth, + - 0 how close;\n"
    "        left and right put a crosshair: its values stand above\n"
    "        T shows all curves: up and down choose, enter opens\n"
    "        L log axis, b lays a finished run under this one\n"
    "        ○ evaluation, e where they are a line, ◆ best, ! a concern\n"
    "memory  bars on one scale with the prediction; t shows it over time\n"
    "log     up and down scroll, / shows only lines with some words,\n"
    "        w reads the worker's own"
)


class RunScreen(DeckScreen):
    """Headline and numbers, curves beside memory, the log, and how alive the run is."""

    NAME = "run"
    FIELD_WORDS: ClassVar = {"search": ("find", "show all")}
    BINDINGS: ClassVar = bindings(RUN_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self.follower = RunFollower(self)
        self._answers = LiveAnswers(self)
        self._resumer = Resumer(self)

    def compose_body(self) -> ComposeResult:
        """Headline and numbers, curves beside memory, log."""
        yield Ends(id="top")
        yield Ends(id="headline")
        yield Drawn(id="numbers")
        yield Rule(id="stage-rule")
        yield Stage()
        yield Rule(id="log-rule")
        yield LogPane()
        yield Ends(id="status")

    @property
    def curves(self) -> CurvePane:
        """The curves."""
        return self.query_one(CurvePane)

    @property
    def stage(self) -> Stage:
        """Curves beside memory, or what stands in their place."""
        return self.query_one(Stage)

    @property
    def log_pane(self) -> LogPane:
        """The log and its search."""
        return self.query_one(LogPane)

    @property
    def ready(self) -> bool:
        """Whether the attached run was read once."""
        return self.follower.run is None or self.deck.snapshot is not None

    # Life

    def on_mount(self) -> None:
        """Start the clock of 'last event … ago'."""
        self.log_pane.lines.focus()
        self.set_interval(max(1.0, self.deck_app.options.refresh_s), self._tick)

    def on_screen_resume(self) -> None:
        """Follow the attached run, at full pace again."""
        if self.follower.run is not self.deck.run:
            self._follow(self.deck.run)
        else:
            self.follower.hide(False)
        self._show()

    def on_unmount(self) -> None:
        """End the reading thread."""
        self.follower.stop()

    def on_screen_suspend(self) -> None:
        """Read less often while another screen is open."""
        self.follower.hide(True)
        self.stage.show_card(self.deck.snapshot, seen=False)

    def on_app_blur(self) -> None:
        """Read less often while the terminal is not in front."""
        self.follower.hide(True)

    def on_app_focus(self) -> None:
        """Read at full pace again."""
        self.follower.hide(False)

    def on_resize(self, event: events.Resize) -> None:
        """Lay the lines out for the new width."""
        self.call_after_refresh(self._show)

    # Following

    def _follow(self, run: Run | None) -> None:
        """Show `run` from now on; nothing of the run before stays."""
        self.stage.reset(run)
        self.log_pane.reset(run)
        self.follower.follow(run, self.deck_app.options.refresh_s, self.deck.process, self.deck.process_offset)

    @on(SnapshotMessage)
    @on(StartFailed)
    def _on_news(self, message: SnapshotMessage | StartFailed) -> None:
        if self.follower.accept(message):
            self.deck.snapshot = self.follower.latest
            self._show()
            if self.deck.snapshot is not None:
                self._answers.update(self.deck.snapshot)

    @on(WorkerStarted)
    def _on_worker_started(self, message: WorkerStarted) -> None:
        self.deck_app.attach(message.run, message.process, message.offset)
        self._follow(self.deck.run)
        self._show()

    # Showing

    def _tick(self) -> None:
        if self.deck.process is not None:
            self.deck.process.poll()
        if self.is_current and not self.follower.held:
            snapshot = self.deck.snapshot
            if snapshot is not None and prepares(snapshot):
                self._show_headline(snapshot)  # its clocks go on without any event
            self._show_status()
            self.stage.tick(snapshot)

    @on(RemedyPane.Found)
    def _show(self) -> None:
        if not self.query("#loss"):  # the deck closes: panes go before what is still posted to their screen
            return
        snapshot = self.deck.snapshot
        self.show_top()
        with self.app.batch_update():
            if self.follower.run is None or snapshot is None:
                self._show_nothing()
                return
            self._show_headline(snapshot)
            self.stage.show(snapshot, seen=self.is_current)
            self._show_numbers()
            self.log_pane.show(snapshot)
            self._show_status()
        self.refresh_keys()

    def _show_headline(self, snapshot: RunSnapshot) -> None:
        width = max(20, self.size.width - 2)
        self.query_one("#headline", Ends).show(*headline(snapshot, time.time(), width))

    def _show_nothing(self) -> None:
        text = "reading the run …" if self.follower.run else NO_RUN
        self.query_one("#headline", Ends).show([(text, "dim")], [])
        self.query_one("#numbers", Drawn).show(_dim, "")

    @on(CurvePane.Changed)
    def _show_numbers(self) -> None:
        """The newest numbers, or those under the crosshair; steps looked at closely are read at full resolution."""
        snapshot, curves = self.deck.snapshot, self.curves
        self.follower.look(curves.window)
        if snapshot is None:
            return
        line = self.query_one("#numbers", Drawn)
        if curves.view.cursor is None:
            line.show(numbers, snapshot)
        else:
            line.show(reading, snapshot, curves.reading_view)

    @on(LogPane.Changed)
    def _show_status(self) -> None:
        snapshot, log = self.deck.snapshot, self.log_pane
        if snapshot is None:
            return
        notes = status_notes(snapshot, self.follower.held, log.following, log.search_note)
        ends = status(snapshot, time.time(), notes)
        self.query_one("#status", Ends).show(*with_cure(ends, snapshot, self.deck_app.commands, self.deck.keys))

    def help_here(self) -> tuple[str, Content] | None:
        """What goes wrong, whole, and how to read the picture."""
        snapshot = self.deck.snapshot
        told = concerns_text(snapshot) if snapshot is not None else Content("")
        return "this run", Content("\n").join([told, HERE]) if told.plain else HERE

    # Commands of the panes

    do_chart = forward(CurvePane, CurvePane.next_kind)
    do_smooth = forward(CurvePane, CurvePane.next_smoothing)
    do_zoom_in = forward(CurvePane, CurvePane.zoom_in)
    do_zoom_out = forward(CurvePane, CurvePane.zoom_out)
    do_whole = forward(CurvePane, CurvePane.show_whole)
    do_powers_y = forward(CurvePane, CurvePane.toggle_powers)
    do_reference = forward(CurvePane, lambda pane: pane.references.toggle())
    do_references = forward(CurvePane, lambda pane: pane.references.choose())
    do_left = forward(CurvePane, CurvePane.left)
    do_right = forward(CurvePane, CurvePane.right)
    do_far_left = forward(CurvePane, CurvePane.far_left)
    do_far_right = forward(CurvePane, CurvePane.far_right)
    do_search = forward(LogPane, LogPane.open_search)
    do_follow = forward(LogPane, LogPane.follow)
    do_worker_log = forward(LogPane, LogPane.read_worker_log)
    do_copy = forward(LogPane, LogPane.copy)
    do_remedy = forward(RemedyPane, RemedyPane.apply_first)
    do_remedies = forward(RemedyPane, RemedyPane.choose)

    # Commands of the screen

    def _request(self, what: str, done: str) -> None:
        if self.follower.run is not None:
            requests.request(self, self.follower.run, what, done)

    do_checkpoint = partialmethod(_request, "checkpoint", "asked for a checkpoint after this step")
    do_evaluate = partialmethod(_request, "evaluate", "asked for an evaluation after this step")

    def do_stop(self) -> None:
        """Stop the run once somebody has confirmed it."""
        if self.follower.run is not None and self.deck.snapshot is not None:
            requests.stop(self, self.follower.run, self.deck.snapshot)

    def do_overview(self) -> None:
        """Everything about the run on one page."""
        open_overview(self, self.follower.run)

    def do_resume_run(self) -> None:
        """Go on from the newest checkpoint."""
        if self.follower.run is not None:
            self._resumer.resume(self.follower.run)

    def do_answers(self) -> None:
        """Show what the run answered to its prompts."""
        if self.deck.snapshot is not None:
            self._answers.show(self.deck.snapshot)

    def do_log(self) -> None:
        """Give the log the whole screen, or take it back."""
        self.curves.leave_grid()
        enlarge(self, LOG)
        self.log_pane.lines.focus()

    def do_all_curves(self) -> None:
        """Show all curves, or leave them."""
        self.curves.toggle_grid()

    def do_zoom(self) -> None:
        """Give the curve the whole screen, or take it back."""
        self.curves.leave_grid()
        enlarge(self, CURVE)

    def do_pause(self) -> None:
        """Hold the picture still, or go on."""
        self.follower.held = not self.follower.held
        if not self.follower.held and self.follower.latest is not None:
            self.deck.snapshot = self.follower.latest
            self._show()
        self._show_status()

    def step_back(self) -> bool:
        """Leave a search, the crosshair or a zoom; otherwise go to the list of runs."""
        if not (self.log_pane.leave_search() or self.curves.step_back() or shrink(self)):
            self.app.switch_mode("runs")
        return True


def _dim(text: str, width: int) -> Content:
    return Content.styled(text, "dim").truncate(width, ellipsis=True)
