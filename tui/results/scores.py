"""An evaluation drawn: verdict, table of scores, samples; and where a job is. Pure functions of values and width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.content import Content

from engine.api.results import FEWEST_ROWS
from engine.text import format_count, format_duration
from tui.charts.bars import around_zero
from tui.reading.jobs import JobView
from tui.results.reader import Report, Results, Sample, Score
from tui.text import Part, bar, clip, fit, fit_right, line

VERDICT_STYLES = {"better": "bold $success", "worse": "bold $error", "worse, and forgetting": "bold $error"}
SURE = {"better": ("▲ better", "$success"), "worse": ("▼ worse", "$error"), "chance": ("  chance", "dim")}
TEXT_LINES = 3
"""Of one text in the list; enter shows the whole."""
WHICH = ("all", "gained", "lost", "wrong")


def verdict_parts(report: Report, width: int) -> list[Part]:
    """The verdict as a word, and how many rows were scored."""
    style = VERDICT_STYLES.get(report.verdict, "bold $warning")
    of = f"all {report.rows:,}" if report.rows == report.held_out else f"{report.rows:,} of {report.held_out:,}"
    rows = f", {of} held-out rows scored" if width >= 76 else f", {report.rows:,} rows scored"
    word = "too few rows to tell" if report.has_few_rows else report.verdict
    return [(word, style), (rows, "dim")]


def score_lines(report: Report, further: str, most: int, width: int) -> Content:
    """Why, what other rows said, and a row a score. Where there are too many, those without interval go first."""
    at = _columns(width)
    shown = _said(report, further, width)
    if most < 9:
        shown = [Content(clip(report.reason, width))]
    head = fit("", at.label) + "".join(fit_right(name, size) for name, size in zip(_HEAD, at.figures, strict=True))
    head += "  " + _bar_head(at.bar)
    shown.append(Content.styled(head.rstrip(), "dim"))
    rows = [*report.scores, *report.counts]
    kept = fitting(rows, most - len(shown))
    shown += [_score_line(row, at) for row in kept]
    if len(kept) < len(rows):
        shown.append(Content.styled(f"… {len(rows) - len(kept)} more: z", "dim"))
    return Content("\n").join(shown)


_HEAD = ("base", "tuned", "change", "95 % interval")
_NARROWEST_HEAD = 17


def _bar_head(cells: int) -> str:
    """Which side of zero is which, where there is room."""
    if cells < _NARROWEST_HEAD:
        return "0".center(cells)
    side = cells // 2 - 1
    return f"{fit('worse', side)} 0 {fit_right('better', side)}"


def score_height(report: Report, further: str, width: int) -> int:
    """Lines that all scores take."""
    return len(_said(report, further, width)) + 1 + len(report.scores) + len(report.counts)


def _said(report: Report, further: str, width: int) -> list[Content]:
    more = list(Content.styled(further, "dim").wrap(width)) if further else []
    return [*Content(report.reason).wrap(width), *more]


def fitting(rows: Sequence[Score], most: int) -> list[Score]:
    """Rows for `most` lines, in their order, one line kept to say that there are more."""
    if len(rows) <= most:
        return list(rows)
    first = sorted(range(len(rows)), key=lambda index: (not rows[index].low, index))[: max(1, most - 1)]
    return [rows[index] for index in sorted(first)]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths of the table of scores; 0 = the column is left out."""

    label: int
    figures: tuple[int, int, int, int]
    bar: int
    word: int


def _columns(width: int) -> _Columns:
    if width < 76:
        return _Columns(20, (9, 9, 9, 0), 7, 2)
    if width < 96:
        return _Columns(20, (9, 9, 10, 17), 9, 2)
    spare = min(3, (width - 96) // 6)
    bar_cells = min(31, width - 20 - 46 - 7 * spare - 12)
    return _Columns(20 + spare, (9 + spare, 9 + spare, 10 + spare, 18 + 2 * spare), bar_cells - 1 + bar_cells % 2, 9)


def _score_line(row: Score, at: _Columns) -> Content:
    word, style = SURE.get(row.sure, ("", "dim"))
    texts = (row.base, row.tuned, row.change, f"{row.low}, {row.high}" if row.low else "")
    figures = [fit_right(text, size) if size else "" for text, size in zip(texts, at.figures, strict=True)]
    effect = row.effect
    drawn = around_zero(effect.low, effect.change, effect.high, at.bar, style) if effect is not None else [" " * at.bar]
    return line(
        fit(row.label, at.label),
        *figures[:3],
        (figures[3], "dim"),
        "  ",
        *drawn,
        (" " + word[: at.word].rstrip(), style),
    )


_TESTS: dict[str, Callable[[Sample], bool]] = {
    "gained": lambda one: one.tuned_right and not one.base_right,
    "lost": lambda one: one.base_right and not one.tuned_right,
    "wrong": lambda one: not one.tuned_right,
}


def which_samples(samples: Sequence[Sample], which: str, words: str) -> list[Sample]:
    """Samples of one of `WHICH` that hold every word."""
    wanted = words.lower().split()
    test = _TESTS.get(which)

    def holds(one: Sample) -> bool:
        text = f"{one.prompt}\n{one.wanted}\n{one.base}\n{one.tuned}".lower()
        return all(word in text for word in wanted)

    return [one for one in samples if (test is None or test(one)) and holds(one)]


def samples_heading(report: Report, shown: Sequence[Sample], which: str, words: str) -> tuple[list[Part], list[Part]]:
    """What the list below shows, and how many answers were exactly right."""
    base, tuned = (sum(getattr(one, side) for one in report.samples) for side in ("base_right", "tuned_right"))
    name = "samples" if which == "all" else f"samples {which}"
    left: list[Part] = [(name, "bold"), (f"  {len(shown):,} of {len(report.samples):,}", "dim")]
    if words:
        left.append((f"  with “{clip(words, 20)}”", "$accent"))
    return left, [(f"✓ as wanted: base {base:,}, tuned {tuned:,}", "dim")]


def sample_lines(sample: Sample, width: int, current: bool) -> Content:
    """One sample: under each other, or base and tuned beside each other from 110 columns on."""
    number = fit_right(str(sample.number), 4) + " "
    lead = line(("> " if current else "  ", "bold $accent"), number)
    style = "" if current else "dim"
    room = width - lead.cell_length - 8
    shown = _texts(lead, "asked", sample.prompt, "  ", room, style)
    blank = Content(" " * lead.cell_length)
    if sample.wanted:
        shown += _texts(blank, "wanted", sample.wanted, "  ", room, style)
    answers = (("base", sample.base, sample.base_right), ("tuned", sample.tuned, sample.tuned_right))
    if width >= 110:
        half = (width - blank.cell_length) // 2
        columns = [
            _texts(Content("") if place else blank, label, text, _mark(right), half - 10, style)
            for place, (label, text, right) in enumerate(answers)
        ]
        return Content("\n").join([*shown, *_beside(columns[0], columns[1], blank.cell_length + half), Content("")])
    for label, text, right in answers:
        shown += _texts(blank, label, text, _mark(right), room, style)
    return Content("\n").join([*shown, Content("")])


def _mark(right: bool) -> Part:
    return ("✓ ", "$success") if right else "  "


def _texts(lead: Content, label: str, text: str, mark: Part, room: int, style: str) -> list[Content]:
    """`text` wrapped behind its label, at most TEXT_LINES lines; an ellipsis where more was there."""
    room = max(10, room - 2)
    lines = Content(text.strip() or "(empty)").wrap(room)
    cut = len(lines) > TEXT_LINES
    kept = [one.truncate(room, ellipsis=True) for one in lines[:TEXT_LINES]]
    if cut:
        kept[-1] = Content(clip(kept[-1].plain.ljust(room) + "…", room))
    head = Content.assemble(lead, (fit(label, 8), style), mark, kept[0])
    blank = " " * (lead.cell_length + 10)
    return [head, *(Content.assemble(blank, one) for one in kept[1:])]


def _beside(left: list[Content], right: list[Content], at: int) -> list[Content]:
    rows = []
    for index in range(max(len(left), len(right))):
        one = left[index] if index < len(left) else Content("")
        other = right[index] if index < len(right) else Content("")
        rows.append(Content.assemble(one, " " * max(0, at - one.cell_length), other))
    return rows


def whole_sample(sample: Sample) -> Content:
    """Every word of one sample, for reading."""
    parts: list[Part] = []
    for label, text, right in (
        ("asked", sample.prompt, False),
        ("wanted", sample.wanted, False),
        ("base", sample.base, sample.base_right),
        ("tuned", sample.tuned, sample.tuned_right),
    ):
        parts += [(f"{label}{'  ✓ as wanted' if right else ''}\n", "bold"), f"{text.strip() or '(empty)'}\n\n"]
    return line(*parts)


def sample_text(sample: Sample) -> str:
    """One sample as plain text, for copying."""
    texts = (("asked", sample.prompt), ("wanted", sample.wanted), ("base", sample.base), ("tuned", sample.tuned))
    return "\n".join(f"{label}: {text}" for label, text in texts) + "\n"


JOB_WORDS = {"data": "reading", "load": "loading", "evaluate": "evaluating", "export": "exporting"}


def job_parts(job: JobView, now: float) -> tuple[list[Part], list[Part]]:
    """What a running job does and how far it is, and since when."""
    silent = "ending" if job.finished else "starting the worker"
    word = JOB_WORDS.get(job.phase, job.phase or silent)
    doing = f"{word}: {job.detail}" if job.detail and job.phase else word
    left: list[Part] = [("→ ", "$accent"), doing]
    progress = job.progress
    if progress is not None and progress.total > 0:
        done, total = format_count(progress.done), format_count(progress.total)
        left += ["  ", *bar(progress.done / progress.total, 12), f"  {done} of {total} {progress.unit}"]
    since = format_duration(max(0.0, now - job.began)) if job.began else ""
    return left, [(since, "dim")]


def job_note(job: JobView, what: str) -> Content:
    """How a job that is over failed, and what to do; empty for one that did not."""
    if job.state not in ("failed", "lost", "stopped"):
        return Content("")
    if job.state == "stopped":
        return Content.styled(f"the last {what} was stopped; what was there before still stands", "$warning")
    head, *rest = job.error or ("it gave no reason",)
    parts: list[Part] = [(f"the last {what} failed: ", "bold $error"), f"{head}\n"]
    return line(*parts, *((f"{text}\n", "dim" if text.startswith(("where:", "its log:")) else "") for text in rest))


def few_rows(rows: int) -> str:
    """What so few rows cannot say; empty for enough of them."""
    if rows >= FEWEST_ROWS:
        return ""
    return f"{rows:,} rows are too few to tell better from chance (use {FEWEST_ROWS})"


def nothing_yet(results: Results) -> Content:
    """What stands there before the first evaluation."""
    if results.report_problem:
        return Content.styled(results.report_problem, "$error")
    if results.further and not results.held_out:
        return line(("nothing was held out of training\n\n", "bold"), results.further)
    if results.no_evaluation:
        return line(("nothing to compare: ", "bold"), results.no_evaluation)
    rows = f"   {results.held_out:,} rows were held out of training;\n" if results.held_out else ""
    few = f"   {few_rows(results.held_out)}\n" if 0 < results.held_out < FEWEST_ROWS else ""
    return line(
        ("not evaluated yet\n\n", "bold"),
        f"v  answers {'held-out ' if rows else ''}questions with the base and with\n"
        "   the tuned model, scores both, and says whether the\n"
        "   change is more than chance\n",
        (f"{rows}   the evaluation goes on when the deck is closed\n", "dim"),
        (few, "$warning"),
        (f"\n{results.further}\n" if results.further else "", "dim"),
        ("\nc  talk with it first    e  export it", ""),
    )
