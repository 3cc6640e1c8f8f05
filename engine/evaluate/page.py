"""The evaluation report as a page of text: for `eval/report.txt` and the terminal. No torch here.

Everything that came from data or a model is sanitised.
"""

from __future__ import annotations

from engine.evaluate.report import AnswerCounts, EvaluationReport, GroupLoss, Sample, Score, ScoreKind
from engine.text import aligned, format_duration, sanitize, wrap

_COUNTS = (("empty", "empty"), ("degenerate", "repeating"), ("unstopped", "cut at the limit"))
TEXT_CHARS = 240
_MOST = 1e7
"""A larger number says only that it is large."""
_HEAD = ("", "base", "tuned", "change [95 %]")
_HEAD_ALONE = ("", "score", "[95 %]")


def score_rows(report: EvaluationReport) -> list[tuple[str, str, str, str]]:
    """(score, base, tuned, change) of every score in the report, as text."""
    return [
        (
            score.kind.label,
            number_text(score.kind, score.base),
            number_text(score.kind, score.tuned),
            change_text(score) + _span_text(score),
        )
        for score in report.scores
    ]


def _alone_rows(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """(score, value, interval) of a model with nothing beside it."""
    return [
        (score.kind.label, number_text(score.kind, score.tuned), _span_text(score, sign="").strip())
        for score in report.scores
    ]


def count_rows(report: EvaluationReport) -> list[tuple[str, int, int]]:
    """How many answers of base and tuned were empty, repeating or cut."""
    base, tuned = (report.counts.get(name, AnswerCounts()) for name in ("base", "tuned"))
    return [(f"{label} answers", getattr(base, key), getattr(tuned, key)) for key, label in _COUNTS]


def number_text(kind: ScoreKind, value: float | None) -> str:
    """A score as it is shown."""
    return _number(value, kind.factor, kind.places)


def change_text(score: Score) -> str:
    """What changed, with its sign."""
    value, kind = score.delta, score.kind
    if value is None or abs(value) >= _MOST:
        return "n/a"
    return f"{value * kind.factor:+.{kind.places}f}"


def bound_texts(score: Score, sign: str = "+") -> tuple[str, str]:
    """Both ends of the interval; empty where there is none."""
    if score.interval is None:
        return "", ""
    low, high = (f"{bound * score.kind.factor:{sign}.{score.kind.places}f}" for bound in score.interval)
    return low, high


def _span_text(score: Score, sign: str = "+") -> str:
    low, high = bound_texts(score, sign)
    return f"  [{low}, {high}]" if low and (change_text(score) != "n/a" or not sign) else ""


def _number(value: float | None, factor: int, places: int) -> str:
    if value is None:
        return "n/a"
    return f"{value * factor:.{places}f}" if value < _MOST else ">1e7"


def page(report: EvaluationReport) -> str:
    """The whole report in 80 columns, ready for a file or a terminal."""
    word, *rest = verdict_lines(report)
    lines = [*body_lines(report), f"verdict: {word}{rest[0]}", *rest[1:], ""]
    for number, sample in enumerate(report.samples, 1):
        lines += [*sample_lines(number, sample), ""]
    return "\n".join(lines).rstrip() + "\n"


def body_lines(report: EvaluationReport) -> list[str]:
    """Heading, scores, what went wrong with answers, and retention; each part ends with an empty line."""
    lines = [*wrap(heading(report)), ""]
    if report.is_alone:
        lines += [*aligned([_HEAD_ALONE, *_alone_rows(report)]), ""]
        wrong = [f"{tuned} {label}" for (_, label), (_, _, tuned) in zip(_COUNTS, count_rows(report), strict=True)]
        lines += [f"answers: {', '.join(wrong)}", ""] if _went_wrong(report) else []
    else:
        lines += [*aligned([_HEAD, *score_rows(report)]), ""] if report.scores else []
        if _went_wrong(report):
            rows = [(label, str(base), str(tuned), f"{tuned - base:+d}") for label, base, tuned in count_rows(report)]
            lines += [*aligned([(*_HEAD[:3], "change"), *rows]), ""]
    retention = retention_lines(report)
    return [*lines, *retention, *([""] if retention else [])]


def _went_wrong(report: EvaluationReport) -> bool:
    return any(counts.any for counts in report.counts.values())


def retention_lines(report: EvaluationReport) -> list[str]:
    """Which other texts were read, how many count, and each group's loss."""
    found = report.retention
    if found is None:
        return []
    source = sanitize(found.source, max_chars=60, single_line=True)
    some = f" (of {found.found})" if found.found > found.passages else ""
    told = f"other text: {source}, {found.counted} of {found.passages} passages count{some}"
    if not found.counted:
        return wrap(f"{told}: the base knows too little of them to forget any")
    lines = wrap(f"{told}, {found.tokens} tokens; a rise beyond {found.bound:g} is forgetting")
    groups = [(name, group) for name, group in found.groups.items() if group.counted]
    return lines + (aligned([_group_row(name, group) for name, group in groups]) if len(groups) > 1 else [])


def _group_row(name: str, group: GroupLoss) -> tuple[str, ...]:
    label = sanitize(name, max_chars=24, single_line=True)
    row = (f"  {label}", f"{group.counted} of {group.passages}", _number(group.base, 1, 4))
    if group.tuned is None:
        return row
    change = "n/a" if group.base is None else f"{group.tuned - group.base:+.4f}"
    return (*row, _number(group.tuned, 1, 4), change)


def verdict_lines(report: EvaluationReport) -> list[str]:
    """The verdict's word, and the lines that follow `verdict: WORD`."""
    word = report.verdict or "none"
    first = f"verdict: {word} - "
    lines = wrap(sanitize(report.verdict_reason), first=first, rest=" " * 9)
    return [word, lines[0].removeprefix(f"verdict: {word}"), *lines[1:]]


def heading(report: EvaluationReport) -> str:
    """What was measured, on what, how long it took."""
    what = f"rows of {report.rows_from}" if report.rows_from else "held-out rows"
    beside = "alone on" if report.is_alone else "base against tuned on"
    measured = _measured(report)
    stored = f"stored as {report.quantization}" if report.path else f"{report.quantization} base"
    return sanitize(
        f"{report.run}: {beside} {report.rows} of {report.rows_held_out} {what}{measured} "
        f"({report.dtype}, {stored}, {report.device}, {format_duration(report.seconds)})",
        single_line=True,
    )


def _measured(report: EvaluationReport) -> str:
    """How many of the rows each kind of score stands on, where that is not all of them."""
    counted = ((report.rows_scored, "scored"), (report.rows_answered, "answered"))
    parts = [f"{count} {word}" for count, word in counted if count is not None and 0 < count < report.rows]
    parts += [f"no row {word}" for count, word in counted if count == 0]
    calls = report.calls_asked
    parts += [f"{calls} tool call{'s' * (calls > 1)} asked"] if calls else []
    return f": {', '.join(parts)}" if parts else ""


def sample_lines(number: int, sample: Sample) -> list[str]:
    """One prompt with the reference and the answers."""
    parts = [("prompt", sample.prompt), ("wanted", sample.reference)]
    parts += [("answer", sample.tuned)] if sample.base is None else [("base", sample.base), ("tuned", sample.tuned)]
    lines: list[str] = []
    for label, whole in parts:
        text = sanitize(whole, max_chars=TEXT_CHARS, single_line=True)
        lines += wrap(text, first=f"{number if not lines else '':>3}  {label:<7} ", rest=" " * 13)
    return lines
