"""Screen 3: a run, live. Is it learning, does it fit, when is it done?

A pure projection of the newest `RunSnapshot`; the run goes on without it. Following happens in
`tail.py`, texts in `runview.py`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widgets import Input, Log

from engine.api import runs
from engine.api.runs import Run
from engine.errors import EngineError
from tui.background import in_thread
from tui.charts.widgets import LineChart
from tui.frame.commands import LIVE_STATES, bindings
from tui.reading.snapshot import RunSnapshot, error_lines, make_facts
from tui.reading.tail import RunTail
from tui.run.curves import CurveView
from tui.run.log_pane import KEPT_LOG_LINES, LogPane
from tui.run.remedy_pane import MendingScreen
from tui.run.view import failure, headline, memory_lines, preparation, status
from tui.text import safe, short_path
from tui.widgets.dialogs import Confirm
from tui.widgets.lines import Drawn, Ends, Line, Rule

NO_RUN = "no run is attached: start one on screen 2, or choose one on screen 4"


HERE = Content(
    "The run goes on without this window; q leaves it alone.\n"
    "curve   t chooses which, s how smooth, + - 0 how close;\n"
    "        left and right put a crosshair: its values stand above\n"
    "memory  bars on one scale with the prediction; t shows it over time\n"
    "log     up and down scroll, / shows only lines with some words,\n"
    "        w reads the worker's own"
)


class SnapshotMessage(Message):
    """The newest snapshot of a run; an older one that still waits is dropped."""

    def __init__(self, run: Run, snapshot: RunSnapshot) -> None:
        super().__init__()
        self.run, self.snapshot = run, snapshot

    def can_replace(self, message: MessagePump | Message) -> bool:
        """Only the last one counts."""
        return isinstance(message, SnapshotMessage)


class StartFailed(Message):
    """A run that this deck started ended before it trained; its directory is gone."""

    def __init__(self, run: Run, error: EngineError) -> None:
        super().__init__()
        self.run, self.error = run, error


class RunScreen(MendingScreen):
    """See the module."""

    NAME = "run"
    BINDINGS: ClassVar = bindings("run")

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self._latest: RunSnapshot | None = None

    def compose_body(self) -> ComposeResult:
        """Headline and numbers, curves beside memory, log."""
        yield Ends(id="headline")
        yield Drawn(id="numbers")
        yield Rule(id="stage-rule")
        with Horizontal(id="stage"):
            with Vertical(id="charts"):
                yield LineChart(id="loss")
                with Horizontal(id="small"):
                    yield from (LineChart(id=f"small-{index}") for index in range(3))
            yield Line(id="message")
            yield Drawn(id="memory")
        yield Rule(id="log-rule")
        field = Input(placeholder="words to find in the whole log; esc shows all", compact=True, id="search")
        field.cursor_blink = False
        yield field
        yield LogPane(max_lines=KEPT_LOG_LINES, id="log")
        yield Ends(id="status")

    def on_mount(self) -> None:
        """The clock of 'last event … ago'."""
        self.query_one(Log).focus()
        self.set_interval(max(1.0, self.deck_app.options.refresh_s), self._tick)

    def on_screen_resume(self) -> None:
        """Somebody looks."""
        self.follow_attached()

    def follow_attached(self) -> None:
        """Follow the attached run; at full pace again."""
        if self._run is not self.deck.run:
            self._follow(self.deck.run)
        elif self._tail:
            self._tail.hide(False)
        self._show()

    @property
    def ready(self) -> bool:
        """The attached run was read once."""
        return self._run is None or self.deck.snapshot is not None

    def on_screen_suspend(self) -> None:
        """Nobody looks: read less often."""
        if self._tail:
            self._tail.hide(True)

    def on_unmount(self) -> None:
        """End the thread."""
        if self._tail:
            self._tail.stop()

    def on_app_blur(self) -> None:
        """The terminal lost the keyboard."""
        if self._tail:
            self._tail.hide(True)

    def on_app_focus(self) -> None:
        """The terminal has the keyboard again."""
        if self._tail:
            self._tail.hide(False)

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        super().on_resize(event)
        self.query_one(LogPane).keep_following()
        self.call_after_refresh(self._show)

    # Following

    def _follow(self, run: Run | None) -> None:
        if self._tail:
            self._tail.stop()
        self._run, self._latest, self._lines_seen, self.paused = run, None, 0, False
        self._looked_at = 0.0
        self.view, self.words, self.found = CurveView(self.view.kind, self.view.smoothing), "", None
        self.remove_class("-searching")
        self.query_one(Log).clear()
        if run is None:
            return
        interval_s = self.deck_app.options.refresh_s
        self._tail = RunTail(run, lambda shot: self.post_message(SnapshotMessage(run, shot)), interval_s)
        self._tail.start()
        if self.deck.process is not None:
            self._watch_start(run)

    def _watch_start(self, run: Run) -> None:
        process = self.deck.process
        offset = self.deck.process_offset

        def wait() -> None:
            try:
                if process is not None:
                    # A run that goes on has something to lose: only one that never began is cleared away.
                    runs.wait_started(run, process, lambda event: None, offset=offset, keep=offset > 0)
            except EngineError as error:
                if not offset:
                    self.post_message(StartFailed(run, error))

        in_thread(wait, f"start {run.id}")

    @on(SnapshotMessage)
    def _on_snapshot(self, message: SnapshotMessage) -> None:
        # A run that could not start is removed: what it said stays on the screen.
        told = self._latest is not None and self._latest.state == "not started" and message.snapshot.state == "removed"
        if message.run is self._run and not told:
            self._latest = message.snapshot
            if not self.paused:
                self.deck.snapshot = message.snapshot
                self._show()

    @on(StartFailed)
    def _on_start_failed(self, message: StartFailed) -> None:
        if message.run is self._run:
            if self._tail:
                self._tail.stop()
            base = self._latest or RunSnapshot(make_facts(message.run.id, None))
            self._latest = replace(base, state="not started", error=error_lines(message.error))
            self.deck.snapshot = self._latest
            self._show()

    # Showing

    def _tick(self) -> None:
        if self.deck.process is not None:
            self.deck.process.poll()
        if self.is_current and not self.paused:
            self._show_status()

    def _show(self) -> None:
        shot = self.deck.snapshot
        with self.app.batch_update():
            if self._run is None or shot is None:
                self._show_nothing()
                return
            width = max(20, self.size.width - 2)
            self.query_one("#headline", Ends).show(*headline(shot, width))
            self._show_stage(shot)
            self._show_log(shot)
            self._show_status()
        self.refresh_keys()

    def _show_nothing(self) -> None:
        self.query_one("#headline", Ends).show(self.tabs(), [])
        text = (
            "reading the run …" if self._run else "no run is attached: start one on screen 2, or choose one on screen 4"
        )
        self.query_one("#numbers", Drawn).show(_dim, text)

    def _show_stage(self, shot: RunSnapshot) -> None:
        self._look_for_remedies(shot)
        message = self.query_one("#message", Line)
        memory = self.query_one("#memory", Drawn)
        memory.show(memory_lines, shot)
        room = max(20, self.query_one("#stage").size.width - memory.size.width - 4)
        learned = bool(shot.curves.loss or shot.curves.evals)
        # A resumed run tells its old error until it trains again.
        resuming = bool(shot.error) and shot.state in LIVE_STATES
        if shot.error and not resuming:
            log_path = short_path(self._run.path / "worker.log") if self._run else ""
            message.show(failure(shot, self.deck.mending, log_path, self.size.width - 4))
        elif not learned or resuming:
            message.show(preparation(shot, room))
        broken = bool(shot.error) and shot.state not in LIVE_STATES
        self.set_class(broken or not learned or resuming, "-message")
        self.set_class(broken, "-failed")
        self._show_curves(shot)

    def _show_status(self) -> None:
        shot = self.deck.snapshot
        if shot is None:
            return
        following = self.query_one(LogPane).following
        notes = ["view held still (p)" if self.paused else "", "" if following else "log not following (G)"]
        if shot.reading is not None:
            notes.append(f"reading the history: {shot.reading:.0%}")
        if self.words:
            total = "…" if self.found is None else f"{self.found.total:,}"
            notes.append(f"{total} lines with '{safe(self.words, 20)}' (esc)")
        if shot.warnings:
            notes.append(f"{shot.warnings} warning{'s' if shot.warnings > 1 else ''}")
        self.query_one("#status", Ends).show(*status(shot, time.time(), notes))

    def help_here(self) -> tuple[str, Content] | None:
        """How to read the picture."""
        return "this run", HERE

    # Commands

    def _request(self, what: str, done: str) -> None:
        if self._run is None:
            return
        try:
            runs.request(self._run.path, what)
        except OSError as error:
            self.say(f"the run cannot be asked: {error.strerror}", error=True)
            return
        self.say(done)

    def do_checkpoint(self) -> None:
        """Ask for a checkpoint."""
        self._request("checkpoint", "asked for a checkpoint after this step")

    def do_evaluate(self) -> None:
        """Ask for an evaluation."""
        self._request("evaluate", "asked for an evaluation after this step")

    def do_stop(self) -> None:
        """Ask, then stop."""
        shot = self.deck.snapshot
        if shot is None:
            return
        begun = shot.step or shot.phase == "train"
        when = f"saves a checkpoint at step {shot.step + 1}, then ends" if begun else "ends before training begins"
        text = f"Stop {shot.facts.name}? It {when}. What it learned is kept; it can be resumed."

        def answer(yes: bool | None) -> None:
            if yes:
                self._request("stop", "asked to stop")

        self.app.push_screen(Confirm(text, "stop it"), answer)

    def do_log(self) -> None:
        """The log on the whole screen, and back."""
        self.remove_class("-zoom")
        self.toggle_class("-log")
        self.query_one(Log).focus()

    def do_zoom(self) -> None:
        """The curve on the whole screen, and back."""
        self.remove_class("-log")
        self.toggle_class("-zoom")

    def step_back(self) -> bool:
        """Out of a search, a zoom or from the crosshair; else to the list of runs."""
        if self.has_class("-searching"):
            self._search("")
        elif self.view.cursor is not None or self.view.span is not None:
            self.do_whole()
        elif self.has_class("-zoom") or self.has_class("-log"):
            self.remove_class("-zoom", "-log")
        else:
            self.app.switch_mode("runs")
        return True

    def do_pause(self) -> None:
        """Hold the picture still, and go on."""
        self.paused = not self.paused
        if not self.paused and self._latest is not None:
            self.deck.snapshot = self._latest
            self._show()
        self._show_status()


def _dim(text: str, width: int) -> Content:
    return Content.styled(text, "dim").truncate(width, ellipsis=True)
