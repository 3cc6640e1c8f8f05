"""The export of the results screen: formats to choose with what they take and how they compared, dtype, place."""

from __future__ import annotations

import time
from functools import partial

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from engine.text import format_bytes
from tui.reading.jobs import JobView
from tui.results.exports import FORMATS, Choices, Exported, Written, estimated_bytes
from tui.results.reader import Results
from tui.results.scores import job_note, job_parts
from tui.text import Part, fit, fit_right, line, number, safe, spread, tail
from tui.widgets.lines import Drawn, Line, Rule
from tui.widgets.rows import Row, Rows

OTHER = ("dtype", "output")


class ExportPane(Vertical):
    """See the module. Choosing is the screen's."""

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

    def show(self, results: Results, choices: Choices) -> None:
        """Bring the pane up to date."""
        names = [name for name, _ in FORMATS if name != "adapter" or choices.adapter]
        rows = [Row(name, partial(format_row, name, choices, results)) for name in names]
        rows += [Row(name, partial(other_row, name, choices, results)) for name in OTHER]
        self.query_one("#formats-heading", Drawn).show(formats_heading)
        self.query_one("#formats", Rows).set_rows(rows)
        self.show_note(results)

    def show_note(self, results: Results) -> None:
        """What belongs to the row under the cursor, and the job."""
        job = results.export
        now = time.time() if job.state == "running" else 0.0
        self.query_one("#export-job", Drawn).show(export_state, job, results.exported, now)
        self.query_one("#export-note", Line).show(export_note(self.current, results), wraps=True)


def formats_heading(width: int) -> Content:
    """The names of the columns."""
    at = _columns(width)
    text = " " * 6 + fit("format", 13) + fit_right("size", 10) + fit_right("largest diff", 13)
    text += fit_right("mean", at[0]) + fit_right("of spread", 11) + fit_right("same token", at[1])
    return Content.styled(text + ("   " + fit("", at[2]) if at[2] else ""), "dim")


def _columns(width: int) -> tuple[int, int, int]:
    """Widths of mean, same token and meaning; 0 = left out."""
    mean = 10 if width >= 76 else 0
    token = 12 if width >= 66 else 0
    meaning = width - 56 - mean - token
    return mean, token, meaning if meaning >= 24 else 0


def format_row(name: str, choices: Choices, results: Results, width: int, current: bool) -> Content:
    """A format: whether it is chosen, how large it is (about, before it is written), how it compared."""
    at = _columns(width)
    written = results.exported.of(name) if results.exported else None
    chosen = choices.has(name)
    estimate = estimated_bytes(name, choices, results.record)
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
    shown = line(*cells)
    return Content(shown.plain) if current else shown


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
    shown = line(*cells).truncate(width, ellipsis=True)
    return Content(shown.plain) if current else shown


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
