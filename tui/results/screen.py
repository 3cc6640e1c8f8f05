"""Screen 5: what a run has come to. Base against tuned with samples, chat, export.

Everything is read from the run's directory once a second, so jobs that others started show as well. What is
drawn is in `scoreview.py`, `widgets/chatpane.py` and `widgets/exportpane.py`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, OptionList

from engine.api import results as results_api
from engine.api import runs
from engine.text import sanitize
from tui.background import Lane
from tui.frame.commands import bindings
from tui.frame.session import ResultsState
from tui.reading.snapshot import short_name
from tui.results.chat import Manner, chat_command, chat_text
from tui.results.chat_pane import ChatPane
from tui.results.export_pane import ExportPane
from tui.results.export_screen import ExportScreen
from tui.results.exports import command
from tui.results.reader import ResultReader, Results, Sample
from tui.results.scores import (
    WHICH,
    job_note,
    job_parts,
    nothing_yet,
    sample_lines,
    sample_text,
    samples_heading,
    score_height,
    score_lines,
    verdict_parts,
    which_samples,
    whole_sample,
)
from tui.terminal.clipboard import copy_text
from tui.text import Part, line, safe
from tui.widgets.dialogs import Ask, Reader
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

VIEWS = ("scores", "chat", "export")
READ_EVERY_S = 1.0
LEAVE_S = 3.0


class ResultsScreen(ExportScreen):
    """See the module."""

    NAME = "results"
    BINDINGS: ClassVar = bindings("results")

    def __init__(self) -> None:
        super().__init__()
        self.view = "scores"
        self._reader: ResultReader | None = None
        self._lane = Lane(self, "results")
        self._timer: Timer | None = None
        self._which, self._words = WHICH[0], ""
        self._samples: dict[str, Sample] = {}

    def compose_body(self) -> ComposeResult:
        """Which run and which view; the view; its shell command."""
        yield Ends(id="top")
        yield Ends(id="views")
        yield Rule()
        with Vertical(id="scores-view"):
            yield Ends(id="evaluation-job")
            yield Line(id="evaluation-note")
            yield Drawn(id="scores")
            yield Rule(id="samples-rule")
            yield Ends(id="samples-heading")
            field = Input(placeholder="words of a sample; esc clears", compact=True, id="words")
            field.cursor_blink = False
            yield field
            yield Rows(id="samples")
        yield ChatPane(self._typed, id="chat-view")
        yield ExportPane(id="export-view")
        yield Line(id="twin")

    def on_mount(self) -> None:
        """Read at once, then every second."""
        self.add_class("-scores")
        self.query_one("#samples", Rows).focus()
        self._timer = self.set_interval(READ_EVERY_S, self._read)
        self._take_run()

    def on_screen_resume(self) -> None:
        """Somebody looks: at the chosen run."""
        if self._timer:
            self._timer.resume()
            self._take_run()

    def on_screen_suspend(self) -> None:
        """Nobody does: rest, and free what the chat holds, unless only a question lies above."""
        if self in self.app.screen_stack:
            return
        if self._timer:
            self._timer.pause()
        self._end_talk()

    def on_unmount(self) -> None:
        """The chat's worker ends with the deck; evaluations and exports go on."""
        self._end_talk(LEAVE_S)

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        super().on_resize(event)
        self.call_after_refresh(self._show)

    # Reading

    def _take_run(self) -> None:
        run = self.deck.chosen
        if run is not self._run:
            self._end_talk()
            self._run, self._talking, self.results, self._choices = run, None, None, None
            self._reader = ResultReader(run) if run else None
            self._workers, self._which, self._words = {}, WHICH[0], ""
            self._view("scores")
        self._read()

    def _read(self) -> None:
        reader = self._reader
        if reader is None:
            self._show()
        elif not self._lane.busy:
            alive = [name for name, worker in self._workers.items() if worker.poll() is None]
            work = partial(reader.read, "evaluation" in alive, "export" in alive)
            self._lane.submit(work, self._seen, self._failed)

    @property
    def ready(self) -> bool:
        """The chosen run was read, or nothing reads it now."""
        return self._run is None or self.results is not None or not self._lane.busy

    def _seen(self, results: Results) -> None:
        if results.run is self._run:
            if self._choices is None and results.record:
                self._choices = results.profile
            self.results = results
            self._show()

    # Showing

    def _show(self) -> None:
        if not self.is_mounted or not self.query("#twin"):
            return
        with self.app.batch_update():
            self._show_top()
            if self.results is not None:
                self._show_scores(self.results)
                if self._choices is not None:
                    self.query_one(ExportPane).show(self.results, self._choices)
            elif self._run is None:
                self.query_one("#evaluation-note", Line).show(Content("no run is chosen: pick one on screen 4, then 5"))
            self._show_chat()
            self.query_one("#twin", Line).show(line(("$ ", "dim"), (self.twin(), "dim")))
        self._tell()

    def _show_top(self) -> None:
        name = safe(short_name(self._run.id)) if self._run else ""
        self.query_one("#top", Ends).show(self.tabs(), [(name, "bold")])
        parts: list[Part] = []
        for key, view in zip("sce", VIEWS, strict=True):
            style = "bold $accent underline" if view == self.view else "dim"
            parts += [(f"{key} ", "dim"), (view, style), "   "]
        report = self.results.report if self.results else None
        self.query_one("#views", Ends).show(parts, verdict_parts(report, self.size.width) if report else [])

    def _show_scores(self, results: Results) -> None:
        job, report = results.evaluation, results.report
        running = job.state == "running"
        progress = self.query_one("#evaluation-job", Ends)
        progress.display = running
        progress.show(*job_parts(job, time.time()) if running else ([], []))
        note = Content("") if running else job_note(job, "evaluation")
        if report is None and not running and not note.plain:
            note = nothing_yet(results)
        self.query_one("#evaluation-note", Line).show(note, wraps=True)
        self.query_one("#evaluation-note").display = bool(note.plain)
        self.set_class(report is None, "-unscored")
        if report is not None:
            wanted = score_height(report, max(20, self.size.width - 2))
            most = self._score_room(wanted)
            scores = self.query_one("#scores", Drawn)
            scores.styles.height = min(most, wanted)
            scores.show(score_lines, report, most)
            self._show_samples()

    def _score_room(self, wanted: int) -> int:
        """Lines for scores: all of them when zoomed, else what leaves room for a sample."""
        room = self.size.height - 5
        return room if self.has_class("-only-scores") else max(5, min(wanted, room - 7))

    def _show_samples(self) -> None:
        report = self.results.report if self.results else None
        if report is None:
            return
        found = which_samples(report.samples, self._which, self._words)
        self._samples = {str(one.number): one for one in found}
        self.query_one("#samples-heading", Ends).show(*samples_heading(report, found, self._which, self._words))
        rows = [Row(key, partial(sample_lines, one)) for key, one in self._samples.items()]
        self.query_one("#samples", Rows).set_rows(rows)

    def _tell(self) -> None:
        """Let the command table know what is possible."""
        results, sample = self.results, self.query_one("#samples", Rows).current
        chat = self._talking.chat if self._talking else None
        state = ResultsState(
            self.view,
            results.reason if results else ResultsState().cannot_ask if self._run is None else "the run is being read",
            results.no_evaluation if results else ResultsState().cannot_evaluate,
            results is not None and results.evaluation.state == "running",
            results is not None and results.export.state == "running",
            chat is not None and chat.state == "answering",
            sample is not None and results is not None and results.report is not None,
        )
        if state != self.deck.results:
            self.deck.results = state
            self.refresh_keys()

    def twin(self) -> str:
        """The shell command that does what this view does."""
        if self._run is None:
            return "engine runs list"
        run_id = self._run.id
        if self.view == "export" and self._choices is not None and self.results is not None:
            return command(run_id, self._choices, self.results.profile)
        if self.view == "chat":
            return chat_command(run_id, self._talking.chat.manner if self._talking else Manner())
        return f"engine evaluate {run_id}"

    # Views

    def _view(self, view: str) -> None:
        self.view = view
        for name in VIEWS:
            self.set_class(name == view, f"-{name}")
        focus = {"scores": "#samples", "chat": "#question", "export": "#formats"}[view]
        self.query_one(focus).focus()
        self._show()

    def do_scores(self) -> None:
        """Scores and samples."""
        self._view("scores")

    def do_export(self) -> None:
        """What to write."""
        self._view("export")

    def do_chat(self) -> None:
        """Talk; the model is loaded at once."""
        self._view("chat")
        if self._run is not None:
            self._talk(self._run).start()
            self._show()

    def help_here(self) -> tuple[str, Content] | None:
        """What the view under the hands shows, and how to read it."""
        return HERE_TITLES[self.view], Content(HERE[self.view])

    def step_back(self) -> bool:
        """End an answer, clear a filter, leave a zoom or a view; then to the list of runs."""
        if self._talking is not None and self._talking.chat.state == "answering":
            self._talking.silence()
        elif self._words or self.has_class("-searching"):
            self._words = self.query_one("#words", Input).value = ""
            self.remove_class("-searching")
            self.query_one("#samples").focus()
            self._show_samples()
        elif self.view != "scores":
            self._view("scores")
        elif self.has_class("-only-scores") or self.has_class("-only-samples"):
            self._zoom("")
        else:
            self.app.switch_mode("runs")
        return True

    # Evaluation and samples

    def do_measure(self) -> None:
        """Start an evaluation of as many rows as the profile says."""
        self._measure(None)

    def do_measure_rows(self) -> None:
        """Ask how many rows, then evaluate."""
        held_out = self.results.held_out if self.results else 0

        def check(text: str) -> str:
            return "" if text.isdigit() and int(text) > 0 else "give a whole number above 0"

        ask = Ask("Evaluate on how many rows?", f"{held_out:,} are held out; more take longer", check=check)
        self.app.push_screen(ask, lambda text: self._measure(int(text)) if text else None)

    def _measure(self, rows: int | None) -> None:
        run = self._run
        if run is not None:
            self._start(
                "evaluation", run, partial(results_api.evaluation_job, run, rows), results_api.EVALUATION_FOLDER
            )

    def do_cease(self) -> None:
        """End what is under way: the answer first."""
        state = self.deck.results
        if state.answering and self._talking is not None:
            self._talking.silence()
        elif self._run is not None:
            folder = (
                results_api.EXPORT_FOLDER
                if state.exporting and self.view != "scores"
                else results_api.EVALUATION_FOLDER
            )
            folder = folder if state.evaluating else results_api.EXPORT_FOLDER
            ended = runs.stop_job(self._run.path / folder)
            self.say("asked it to end" if ended else "it cannot be reached from here", error=not ended)

    def do_enlarge(self) -> None:
        """Both, samples alone, scores alone."""
        now = "samples" if self.has_class("-only-samples") else "scores" if self.has_class("-only-scores") else ""
        self._zoom({"": "samples", "samples": "scores", "scores": ""}[now])

    def _zoom(self, what: str) -> None:
        self.set_class(what == "samples", "-only-samples")
        self.set_class(what == "scores", "-only-scores")
        self.call_after_refresh(self._show)

    def do_which(self) -> None:
        """The next kind of samples."""
        self._which = WHICH[(WHICH.index(self._which) + 1) % len(WHICH)]
        self._show()

    def do_seek(self) -> None:
        """Type words."""
        self.add_class("-searching")
        self.query_one("#words").focus()

    @on(Input.Changed, "#words")
    def _on_words(self, event: Input.Changed) -> None:
        self._words = safe(event.value, 80)
        self._show_samples()

    @on(Input.Submitted, "#words")
    def _on_words_taken(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(self._words), "-searching")
        self.query_one("#samples").focus()

    @on(OptionList.OptionSelected, "#samples")
    def _on_sample(self) -> None:
        self.deck_app.action_command("read")

    def do_read(self) -> None:
        """The sample under the cursor, whole."""
        row = self.query_one("#samples", Rows).current
        sample = self._samples.get(row.key) if row else None
        if sample is not None:
            self.app.push_screen(Reader(f"sample {sample.number}", whole_sample(sample)))

    # Copying

    def do_copy_results(self) -> None:
        """What this view shows, as text."""
        if self._run is None or self.results is None:
            return
        text = self._text(self.results)
        try:
            where = copy_text(self.app, text, self._run.path / f"deck-{self.view}.txt")
        except OSError as error:
            self.say(f"it cannot be written: {error.strerror}", error=True)
            return
        self.say(safe(where))

    def _text(self, results: Results) -> str:
        if self.view == "chat" and self._talking is not None:
            return sanitize(chat_text(self._talking.chat), max_chars=1_000_000)
        if self.view == "export" and results.exported is not None:
            return "\n".join(f"{one.name}  {one.path}" for one in results.exported.written) + "\n"
        row = self.query_one("#samples", Rows).current
        sample = self._samples.get(row.key) if row else None
        if results.report is None:
            return f"{self.twin()}\n"
        return score_lines(results.report, 1000, 100).plain + "\n\n" + (sample_text(sample) if sample else "")

    def do_copy_twin(self) -> None:
        """The shell command."""
        if self._run is not None:
            self.app.copy_to_clipboard(self.twin())
            self.say(f"copied: {self.twin()}")


HERE_TITLES = {"scores": "Base against tuned", "chat": "Talking with a run", "export": "Exporting a run"}
HERE = {
    "scores": """\
Both models saw the same rows, which training never did.

perplexity, loss   how surprised the model is by the wanted answer
gain from prompt   what the wanted answer gains from its own question
                   over another row's: little when only the manner of
                   answers was learned
loss on other text outside the task: a sure rise over 0.1 is forgetting
ROUGE, BLEU, chrF  how much of the wanted text is in the answer
exact match        answers that are the wanted one, but for case and
                   punctuation
token F1           words in common
95 % interval      where the change lies when rows are drawn anew:
                   better or worse when it leaves zero out, else chance
verdict            better: a sure gain somewhere and no sure loss

✓ before an answer: exactly as wanted. enter reads a sample whole, f
shows those gained, lost or wrong, / those with some words.
""",
    "chat": """\
Each line is a question; the model reads what was said before.
It is loaded when this view opens and let go when you leave the screen,
start an evaluation or an export, or close the deck.

^t, /base, /tuned  who answers: the base lacks what was learned
/clear             forget the conversation
/system TEXT       a system message; without TEXT none
/temperature N     0 = always the likeliest token, up to 5
/tokens N          the longest answer
/seed N            of sampled answers
esc                end the answer under way; what was said stays
""",
    "export": """\
space chooses, w writes. It is written beside an earlier export, loaded
again, compared, and only then put in its place.

adapter       small; needs its base beside it (PEFT)
merged        base and adapter in one: transformers, vLLM load it
nf4, int8     the merged model in 4 or 8 bits (bitsandbytes)
gguf …        for llama.cpp and Ollama; q8_0 keeps nearly all

largest diff  of the logits, against what the format was made from
mean          of these differences
of spread     the error beside how far logits lie apart anyway
same token    how often the likeliest next token is the same
~             about, before it was written
""",
}
