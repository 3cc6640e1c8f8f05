"""The export of the results screen: formats to choose, what each takes and how it compared, dtype and folder."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList

from engine.api import results as results_api
from engine.api.runs import Run
from engine.text import format_bytes
from tui.documents.completion import Wanted
from tui.frame.path_field import PathField
from tui.reading.jobs import JobView
from tui.results.exports import DTYPES, FORMATS, Choices, Exported, Written, command, size_estimate, toggled
from tui.results.job_starter import JobRequested
from tui.results.reader import Results
from tui.results.scores import job_note, job_parts
from tui.text import Part, fit, fit_right, line, number, safe, spread, tail
from tui.widgets.dialogs import Ask, Pick
from tui.widgets.lines import Drawn, Line, Rule
from tui.widgets.panes import notify
from tui.widgets.rows import Row, Rows

OTHER = ("dtype", "output")


class ExportPane(Vertical):
    """What an export will write. It keeps the choices and asks the screen to start the job."""

    HERE: ClassVar = (
        "Exporting a run",
        """\
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
    )

    class Changed(Message):
        """Something else was chosen."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._choices: Choices | None = None
        self._results: Results | None = None

    def compose(self) -> ComposeResult:
        """Table of formats, then the row under the cursor in words and how the job is."""
        yield Drawn(id="formats-heading")
        yield Rows(id="formats")
        yield Rule()
        yield Drawn(id="export-job")
        yield Line(id="export-note")

    @property
    def current(self) -> str:
        """The row under the cursor."""
        row = self.query_one("#formats", Rows).current
        return row.key if row else ""

    # Choosing

    def reset(self) -> None:
        """Prepare for another run, whose profile says what is chosen first."""
        self._choices = self._results = None

    def toggle(self) -> None:
        """Switch the format under the cursor, or change dtype or folder."""
        choices, results, name = self._choices, self._results, self.current
        if choices is None or results is None or not name:
            return
        if name == "dtype":
            labels = [Content(dtype or "as the run computed") for dtype in DTYPES]
            pick = Pick("dtype of the merged weights", labels, DTYPES.index(choices.dtype))
            self.app.push_screen(pick, self._take_dtype)
        elif name == "output":
            note = "a new or empty folder, or one of an earlier export; empty = in the run's own folder"
            field = PathField(choices.output, Wanted(Path.cwd(), folders_only=True))
            self.app.push_screen(
                Ask("Write to which folder?", f"{note}; tab completes", field=field), self._take_output
            )
        else:
            choices, refusal = toggled(choices, name, results.profile)
            if refusal:
                notify(self, refusal)
            self._choose(choices)

    def _take_dtype(self, index: int | None) -> None:
        if index is not None and self._choices is not None:
            self._choose(replace(self._choices, dtype=DTYPES[index]))

    def _take_output(self, text: str | None) -> None:
        if text is not None and self._choices is not None:
            self._choose(replace(self._choices, output=text))

    def _choose(self, choices: Choices) -> None:
        self._choices = choices
        self._draw()
        self.post_message(self.Changed())

    @on(OptionList.OptionHighlighted, "#formats")
    def _on_highlighted(self) -> None:
        self._draw_note()

    @on(OptionList.OptionSelected, "#formats")
    async def _on_selected(self) -> None:
        await self.run_action("app.command('toggle')")

    # What is chosen, for the screen

    def write(self) -> None:
        """Ask for the export to be started."""
        choices, results = self._choices, self._results
        if choices is None or results is None:
            return
        make = partial(
            results_api.export_job,
            results.run,
            output=Path(choices.output) if choices.output else None,
            merged=choices.merged,
            dtype=choices.dtype or None,
            quantized=choices.quantized,
            gguf=choices.gguf,
        )
        self.post_message(JobRequested("export", make, results.run.path / results_api.EXPORT_FOLDER))

    def command(self, run: Run) -> str | None:
        """The shell command for the same export; None before the run was read."""
        if self._choices is None or self._results is None:
            return None
        return command(run.id, self._choices, self._results.profile)

    def text(self) -> str | None:
        """What the last export wrote, for copying; None when there was none."""
        exported = self._results.exported if self._results else None
        return None if exported is None else "\n".join(f"{one.name}  {one.path}" for one in exported.written) + "\n"

    # Showing

    def show(self, results: Results) -> None:
        """Bring the pane up to date."""
        if self._choices is None and results.record:
            self._choices = results.profile
        self._results = results
        self._draw()

    def _draw(self) -> None:
        choices, results = self._choices, self._results
        if choices is None or results is None:
            return
        names = [name for name, _ in FORMATS if name != "adapter" or choices.adapter]
        rows = [Row(name, partial(format_row, name, choices, results)) for name in names]
        rows += [Row(name, partial(other_row, name, choices, results)) for name in OTHER]
        self.query_one("#formats-heading", Drawn).show(formats_heading)
        self.query_one("#formats", Rows).set_rows(rows)
        self._draw_note()

    def _draw_note(self) -> None:
        """What belongs to the row under the cursor, and the job."""
        if self._choices is None or self._results is None:
            return
        job = self._results.export
        now = time.time() if job.state == "running" else 0.0
        self.query_one("#export-job", Drawn).show(export_state, job, self._results.exported, now)
        self.query_one("#export-note", Line).show(export_note(self.current, self._results), wraps=True)


def formats_heading(width: int) -> Content:
    """The names of the columns."""
    at = _columns(width)
    text = " " * 6 + fit("format", 13) + fit_right("size", 10) + fit_right("largest diff", 13)
    text += fit_right("mean", at[0]) + fit_right("of spread", 11) + fit_right("same token", at[1])
    return Content.styled(text + ("   " + fit("", at[2]) if at[2] else ""), "dim")


def _columns(width: int) -> tuple[int, int, int]:
    """Widths of the columns mean, same token and meaning; 0 = left out."""
    mean = 10 if width >= 76 else 0
    token = 12 if width >= 66 else 0
    meaning = width - 56 - mean - token
    return mean, token, meaning if meaning >= 24 else 0


def format_row(name: str, choices: Choices, results: Results, width: int, current: bool) -> Content:
    """A format: whether it is chosen, how large it is (about, before it is written), how it compared."""
    at = _columns(width)
    written = results.exported.of(name) if results.exported else None
    chosen = choices.has(name)
    estimate = size_estimate(name, choices, results.record)
    size = format_bytes(written.size_bytes) if written else f"~{format_bytes(estimate)}" if estimate else "–"
    cells: list[Part] = [
        ("> " if current else "  ", "bold"),
        ("[x] " if chosen else "[ ] ", "$accent" if chosen else "dim"),
        fit(name, 13),
        (fit_right(size, 10), "" if written else "dim"),
        *_parity_cells(written, at),
    ]
    meaning = dict(FORMATS)[name]
    cells += [("   " + fit(meaning, at[2] - 3), "dim")] if at[2] else []
    row = line(*cells)
    return Content(row.plain) if current else row


def _parity_cells(written: Written | None, at: tuple[int, int, int]) -> list[Part]:
    if written is None or not written.against:
        return [(fit_right("" if written is None else "copied", 13), "dim"), " " * (at[0] + 11 + at[1])]
    share = "–" if written.relative is None else f"{written.relative:.1%}"
    token = "–" if written.same_token is None else f"{written.same_token:.1%}"
    return [
        fit_right(number(written.max_diff, ".3g"), 13),
        fit_right(number(written.mean_diff, ".2g"), at[0]),
        fit_right(share, 11),
        fit_right(token, at[1]),
    ]


def other_row(name: str, choices: Choices, results: Results, width: int, current: bool) -> Content:
    """The dtype of merged weights, and where the export goes."""
    texts = {"dtype": choices.dtype or "as the run computed", "output": choices.output or "in the run's own folder"}
    cells: list[Part] = [("> " if current else "  ", "bold"), "    ", fit(name, 13), "  ", safe(texts[name])]
    row = line(*cells).truncate(width, ellipsis=True)
    return Content(row.plain) if current else row


def export_state(job: JobView, exported: Exported | None, now: float, width: int) -> Content:
    """How far a running export is, else where the last one lies: the end of the path where there is no room."""
    if job.state == "running":
        return spread(*job_parts(job, now), width)
    if exported is None:
        return Content.styled("nothing exported yet: w writes what is chosen", "dim")
    return line(("written to ", "dim"), tail(exported.output, max(20, width - 11)))


def export_note(name: str, results: Results) -> Content:
    """The row under the cursor in words; before all why the last export failed."""
    job = results.export
    failed = job_note(job, "export")
    if failed.plain and job.state != "running":
        return failed
    parts: list[Part] = [(f"warning: {text}\n", "$warning") for text in job.warnings]
    written = results.exported.of(name) if results.exported else None
    if name in OTHER:
        words = {"dtype": "enter chooses bf16, fp16 or fp32 for the merged weights", "output": "enter names a folder"}
        return line(*parts, (words[name], "dim"))
    if written is None:
        return line(*parts, (dict(FORMATS).get(name, ""), "dim"))
    inside = written.path.removeprefix(results.exported.output if results.exported else "").lstrip("/")
    parts.append(f"{inside}\n")
    if written.against:
        where = f" at {written.positions:,.0f} places" if written.positions else ""
        parts.append((f"read back and compared with {written.against}{where}: differences of logits\n", "dim"))
        if name == "merged" and results.exported and results.exported.answer:
            parts.append((f"it answers: {results.exported.answer}", "dim"))
    return line(*parts)
