"""The scores of the results screen: base against tuned, how the evaluation goes, and samples to look through."""

from __future__ import annotations

import time
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList

from engine.api import results as results_api
from engine.api.results import FEWEST_ROWS
from engine.api.runs import Run
from tui.results.job_starter import JobRequested
from tui.results.reader import Results, Sample
from tui.results.scores import (
    WHICH,
    few_rows,
    job_note,
    job_parts,
    nothing_yet,
    sample_lines,
    sample_text,
    samples_heading,
    score_height,
    score_lines,
    which_samples,
    whole_sample,
)
from tui.text import safe
from tui.widgets.dialogs import Ask, Reader
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

ENLARGED = {"": "samples", "samples": "scores", "scores": ""}
"""What has the whole view after what had it before; empty for both parts."""


class ScoresPane(Vertical):
    """A report and its samples, which can be filtered by what changed and by words."""

    HERE: ClassVar = (
        "Base against tuned",
        """\
Both models saw the same rows, which training never did.

perplexity, loss   how surprised the model is by the wanted answer
gain from prompt   what the wanted answer gains from its own question
                   over another row's: little when only the manner of
                   answers was learned
loss on other text outside the task: a sure rise over 0.1 is forgetting
ROUGE, BLEU, chrF  how much of the wanted text is in the answer
exact match        answers that are the wanted one, but for case and
                   punctuation
calls, tool,       tool calls that can be read, call the wanted tool,
arguments          and give it the wanted arguments
token F1           words in common
95 % interval      where the change lies when rows are drawn anew:
                   better or worse when it leaves zero out, else chance.
                   Its bar has zero in the middle and better at the
                   right, each row on a scale of its own; ● is the change
verdict            better: a sure gain somewhere and no sure loss

✓ before an answer: exactly as wanted. enter reads a sample whole, f
shows those gained, lost or wrong, / those with some words.
""",
    )

    class Changed(Message):
        """Other samples are shown."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._results: Results | None = None
        self._which, self._words = WHICH[0], ""
        self._enlarged = ""
        self._samples: dict[str, Sample] = {}

    def compose(self) -> ComposeResult:
        """How the evaluation goes, the scores, the samples."""
        yield Ends(id="evaluation-job")
        yield Line(id="evaluation-note")
        yield Drawn(id="scores")
        yield Rule(id="samples-rule")
        yield Ends(id="samples-heading")
        field = Input(placeholder="words of a sample; esc clears", compact=True, id="words")
        field.cursor_blink = False
        yield field
        yield Rows(id="samples")

    @property
    def has_sample(self) -> bool:
        """Whether a sample is under the cursor."""
        reported = self._results is not None and self._results.report is not None
        return reported and self.query_one("#samples", Rows).current is not None

    @property
    def _sample(self) -> Sample | None:
        row = self.query_one("#samples", Rows).current
        return self._samples.get(row.key) if row else None

    # Showing

    def reset(self) -> None:
        """Prepare for another run: all samples."""
        self._results = None
        self._which, self._words = WHICH[0], ""

    def show_note(self, note: Content) -> None:
        """Show a sentence in place of an evaluation."""
        self.query_one("#evaluation-note", Line).show(note)

    def show(self, results: Results) -> None:
        """Bring the pane up to date."""
        self._results = results
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
            full = score_height(report, results.further, max(20, self.screen.size.width - 2))
            most = self._score_room(full)
            scores = self.query_one("#scores", Drawn)
            scores.styles.height = min(most, full)
            scores.show(score_lines, report, results.further, most)
            self._show_samples()

    def _score_room(self, full: int) -> int:
        """Lines for scores, at most `full`: what leaves room for a sample, or the whole view."""
        room = self.screen.size.height - 5
        return room if self._enlarged == "scores" else max(5, min(full, room - 7))

    def _show_samples(self) -> None:
        report = self._results.report if self._results else None
        if report is None:
            return
        samples = which_samples(report.samples, self._which, self._words)
        self._samples = {str(one.number): one for one in samples}
        self.query_one("#samples-heading", Ends).show(*samples_heading(report, samples, self._which, self._words))
        rows = [Row(key, partial(sample_lines, one)) for key, one in self._samples.items()]
        self.query_one("#samples", Rows).set_rows(rows)

    # The evaluation

    def measure(self) -> None:
        """Ask for an evaluation of as many rows as the profile says."""
        self._measure(None)

    def ask_rows(self) -> None:
        """Let somebody type how many rows, then ask for an evaluation of them."""
        held_out = self._results.held_out if self._results else 0

        def check(text: str) -> str:
            if not (text.isascii() and text.isdigit() and int(text) > 0):
                return "give a whole number above 0"
            return few_rows(min(int(text), held_out)) if held_out >= FEWEST_ROWS else ""

        note = (
            few_rows(held_out) or f"{held_out:,} are held out; more take longer, fewer than {FEWEST_ROWS} say nothing"
        )
        ask = Ask("Evaluate on how many rows?", note, check=check)
        self.app.push_screen(ask, lambda text: self._measure(int(text)) if text else None)

    def _measure(self, rows: int | None) -> None:
        if self._results is not None:
            run = self._results.run
            make = partial(results_api.evaluation_job, run, rows)
            self.post_message(JobRequested("evaluation", make, run.path / results_api.EVALUATION_FOLDER))

    # The samples

    def enlarge(self) -> None:
        """Give the samples the whole view, then the scores, then both their part."""
        self._enlarge(ENLARGED[self._enlarged])

    def show_both(self) -> bool:
        """Show both parts again; False when they are shown."""
        enlarged = bool(self._enlarged)
        if enlarged:
            self._enlarge("")
        return enlarged

    def _enlarge(self, part: str) -> None:
        self._enlarged = part
        self.set_class(part == "samples", "-only-samples")
        self.set_class(part == "scores", "-only-scores")
        self.call_after_refresh(self._show_again)

    def _show_again(self) -> None:
        if self._results is not None:
            self.show(self._results)

    def next_kind(self) -> None:
        """Show the next kind of samples: all, gained, lost, wrong."""
        self._which = WHICH[(WHICH.index(self._which) + 1) % len(WHICH)]
        self._show_samples()
        self.post_message(self.Changed())

    def open_search(self) -> None:
        """Let somebody type words that samples must have."""
        self.add_class("-searching")
        self.query_one("#words").focus()

    def clear_search(self) -> bool:
        """Show samples with any words again; False when they are shown."""
        if not self._words and not self.has_class("-searching"):
            return False
        self._words = self.query_one("#words", Input).value = ""
        self.remove_class("-searching")
        self.query_one("#samples").focus()
        self._show_samples()
        return True

    def read_sample(self) -> None:
        """Open the whole sample under the cursor."""
        sample = self._sample
        if sample is not None:
            self.app.push_screen(Reader(f"sample {sample.number}", whole_sample(sample)))

    @on(Input.Changed, "#words")
    def _on_words(self, event: Input.Changed) -> None:
        self._words = safe(event.value, 80)
        self._show_samples()

    @on(Input.Submitted, "#words")
    def _on_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(self._words), "-searching")
        self.query_one("#samples").focus()

    @on(OptionList.OptionSelected, "#samples")
    async def _on_selected(self) -> None:
        await self.run_action("app.command('read')")

    # What it is as text

    def command(self, run: Run) -> str:
        """The shell command for the same scores."""
        return f"engine evaluate {run.id}"

    def text(self) -> str | None:
        """The scores and the sample under the cursor, for copying; None without a report."""
        results, sample = self._results, self._sample
        if results is None or results.report is None:
            return None
        return (
            score_lines(results.report, results.further, 1000, 100).plain
            + "\n\n"
            + (sample_text(sample) if sample else "")
        )
