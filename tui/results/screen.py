"""Screen 5: what a run has come to. Base against tuned with samples, chat, export.

Everything is read from the run's directory once a second, so jobs that others started show as well. The screen puts
three views together, `ScoresPane`, `ChatPane` and `ExportPane`; each keeps its own state.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer

from engine.api import results as results_api
from engine.api import runs
from engine.api.runs import Run
from engine.errors import EngineError
from tui.answers.opening import AnswersOpener
from tui.background import Lane
from tui.frame.commands import bindings
from tui.frame.copying import copy_and_tell, copy_short
from tui.frame.screen import DeckScreen
from tui.overview.opening import open_overview
from tui.reading.snapshot import short_name
from tui.results.chat_pane import ChatPane
from tui.results.commands import RESULTS_COMMANDS, ResultsState, results_state
from tui.results.export_pane import ExportPane
from tui.results.job_starter import JobRequested, JobStarter
from tui.results.reader import ResultReader, Results
from tui.results.scores import verdict_parts
from tui.results.scores_pane import ScoresPane
from tui.results.view import view_names
from tui.text import line, safe, trouble
from tui.widgets.lines import Ends, Line, Rule
from tui.widgets.panes import forward

Pane = ScoresPane | ChatPane | ExportPane
PANES: dict[str, type[Pane]] = {"scores": ScoresPane, "chat": ChatPane, "export": ExportPane}
FOCUS = {"scores": "#samples", "chat": "#question", "export": "#formats"}
"""What has the keyboard in each view."""
READ_EVERY_S = 1.0
NO_RUN = "no run is chosen: pick one on screen 4, then 5"


class ResultsScreen(DeckScreen):
    """One of three views of a run's results, and the shell command that does the same."""

    NAME = "results"
    FIELD_WORDS: ClassVar = {"words": ("list", "clear"), "question": ("ask", "leave")}
    BINDINGS: ClassVar = bindings(RESULTS_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self.view = "scores"
        self.results: Results | None = None
        self._run: Run | None = None
        self._reader: ResultReader | None = None
        self._lane = Lane(self, "results")
        self._answers = AnswersOpener(self, self._report)
        self._jobs = JobStarter(self, self._read, self._report)
        self._timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """Which run and which view; the views; the shell command."""
        yield Ends(id="top")
        yield Ends(id="views")
        yield Rule()
        yield ScoresPane(id="scores-view")
        yield ChatPane(id="chat-view")
        yield ExportPane(id="export-view")
        yield Line(id="twin")

    @property
    def scores(self) -> ScoresPane:
        """The view `scores`."""
        return self.query_one(ScoresPane)

    @property
    def chat(self) -> ChatPane:
        """The view `chat`."""
        return self.query_one(ChatPane)

    @property
    def export(self) -> ExportPane:
        """The view `export`."""
        return self.query_one(ExportPane)

    @property
    def pane(self) -> Pane:
        """The view that is shown."""
        return self.query_one(PANES[self.view])

    # Life

    def on_mount(self) -> None:
        """Read at once, then every second."""
        self.add_class("-scores")
        self.query_one("#samples").focus()
        self._timer = self.set_interval(READ_EVERY_S, self._read)
        self._take_run()

    def on_screen_resume(self) -> None:
        """Show the chosen run."""
        if self._timer:
            self._timer.resume()
            self._take_run()

    def on_screen_suspend(self) -> None:
        """Rest and free the chat's model, unless only a question lies above."""
        if self in self.app.screen_stack:
            return
        if self._timer:
            self._timer.pause()
        self.chat.close()

    def on_resize(self, event: events.Resize) -> None:
        """Lay the lines out for the new width."""
        self.call_after_refresh(self._show)

    # Reading

    @property
    def ready(self) -> bool:
        """Whether the chosen run was read, or nothing reads it now."""
        return self._run is None or self.results is not None or not self._lane.busy

    def _take_run(self) -> None:
        run = self.deck.chosen
        if run is not self._run:
            self._run, self.results = run, None
            self._reader = ResultReader(run) if run else None
            self._jobs.reset()
            self.scores.reset()
            self.chat.reset(run)
            self.export.reset()
            self._view("scores")
        self._read()

    def _read(self) -> None:
        reader = self._reader
        if reader is None:
            self._show()
        elif not self._lane.busy:
            work = partial(reader.read, self._jobs.alive("evaluation"), self._jobs.alive("export"))
            self._lane.submit(work, self._take_results, self._report)

    def _take_results(self, results: Results) -> None:
        if results.run is self._run:
            self.results = results
            self._show()

    def _report(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        self.say(trouble(error), error=True)

    # Showing

    def _show(self) -> None:
        if not self.is_mounted or not self.query("#twin"):
            return
        with self.app.batch_update():
            self._show_top()
            if self.results is not None:
                self.scores.show(self.results)
                self.export.show(self.results)
            elif self._run is None:
                self.scores.show_note(Content(NO_RUN))
            self.chat.show()
        self._show_state()

    def _show_top(self) -> None:
        self.show_top(*([(safe(short_name(self._run.id)), "bold")] if self._run else []))
        report = self.results.report if self.results else None
        verdict = verdict_parts(report, self.size.width) if report else []
        self.query_one("#views", Ends).show(view_names(self.view), verdict)

    @on(ScoresPane.Changed)
    @on(ChatPane.Changed)
    @on(ExportPane.Changed)
    def _show_state(self) -> None:
        """The shell command, and which commands are possible now."""
        self.query_one("#twin", Line).show(line(("$ ", "dim"), (self.twin(), "dim")))
        state = results_state(self._run, self.results, self.view, self.chat.answering, self.scores.has_sample)
        self.chat.refusal = state.cannot_ask
        if state != self.deck.of(ResultsState):
            self.deck.put(state)
            self.refresh_keys()

    def twin(self) -> str:
        """The shell command that does what this view does."""
        run = self._run
        return "engine runs list" if run is None else self.pane.command(run) or self.scores.command(run)

    def help_here(self) -> tuple[str, Content] | None:
        """What the view shows, and how to read it."""
        title, text = self.pane.HERE
        return title, Content(text)

    # Views

    def _view(self, view: str) -> None:
        self.view = view
        for name in FOCUS:
            self.set_class(name == view, f"-{name}")
        self.query_one(FOCUS[view]).focus()
        self._show()

    def do_scores(self) -> None:
        """Show scores and samples."""
        self._view("scores")

    def do_export(self) -> None:
        """Show what can be written."""
        self._view("export")

    def do_chat(self) -> None:
        """Talk; the model is loaded at once."""
        self._view("chat")
        self.chat.open()

    def step_back(self) -> bool:
        """End an answer, clear a filter, leave a zoom or a view; then go to the list of runs."""
        if self.chat.answering:
            self.chat.end_answer()
        elif not self.scores.clear_search():
            if self.view != "scores":
                self._view("scores")
            elif not self.scores.show_both():
                self.app.switch_mode("runs")
        return True

    # Commands of the views

    do_measure = forward(ScoresPane, ScoresPane.measure)
    do_measure_rows = forward(ScoresPane, ScoresPane.ask_rows)
    do_enlarge = forward(ScoresPane, ScoresPane.enlarge)
    do_which = forward(ScoresPane, ScoresPane.next_kind)
    do_seek = forward(ScoresPane, ScoresPane.open_search)
    do_read = forward(ScoresPane, ScoresPane.read_sample)
    do_answerer = forward(ChatPane, ChatPane.switch_answerer)
    do_both = forward(ChatPane, ChatPane.switch_both)
    do_toggle = forward(ExportPane, ExportPane.toggle)
    do_write = forward(ExportPane, ExportPane.write)

    def do_answers_then(self) -> None:
        """Show what the run answered to its prompts while it learned."""
        if self._run is not None:
            self._answers.open(self._run)

    def do_overview_result(self) -> None:
        """Everything about the run on one page."""
        open_overview(self, self._run)

    # Jobs

    @on(JobRequested)
    def _on_job_requested(self, message: JobRequested) -> None:
        self.chat.close()  # its model makes room
        self._jobs.start(message)

    def do_cease(self) -> None:
        """End what is under way: the answer first, then the job of the view."""
        state = self.deck.of(ResultsState)
        if state.answering:
            self.chat.end_answer()
        elif self._run is not None:
            exports = state.exporting and self.view != "scores"
            evaluation = state.evaluating and not exports
            folder = results_api.EVALUATION_FOLDER if evaluation else results_api.EXPORT_FOLDER
            ended = runs.stop_job(self._run.path / folder)
            self.say("asked it to end" if ended else "it cannot be reached from here", error=not ended)

    # Copying

    def do_copy_results(self) -> None:
        """Copy what this view shows, as text."""
        if self._run is None or self.results is None:
            return
        texts = (self.pane.text(), self.scores.text(), f"{self.twin()}\n")
        text = next(text for text in texts if text is not None)
        copy_and_tell(self, text, self._run.path / f"deck-{self.view}.txt")

    def do_copy_twin(self) -> None:
        """Copy the shell command."""
        if self._run is not None:
            copy_short(self, self.twin())
