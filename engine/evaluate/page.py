"""The evaluation report as a page of text: for `eval/report.txt` and the terminal. No torch here.

Called by `run.py` and by `engine evaluate`. Everything that came from data or a model is sanitised.
"""

from __future__ import annotations

import math
from typing import Any

from engine.text import aligned, format_duration, sanitize, wrap

_ROWS = (
    ("perplexity", "perplexity", 1, 3),
    ("loss", "loss per token", 1, 4),
    ("relevance", "gain from the prompt", 1, 3),
    ("retention", "loss on other text", 1, 4),
    ("rouge1", "ROUGE-1", 1, 1),
    ("rouge2", "ROUGE-2", 1, 1),
    ("rougeL", "ROUGE-L", 1, 1),
    ("rougeLsum", "ROUGE-Lsum", 1, 1),
    ("bleu", "BLEU", 1, 1),
    ("chrf", "chrF", 1, 1),
    ("bertscore_precision", "BERTScore P", 1, 1),
    ("bertscore_recall", "BERTScore R", 1, 1),
    ("bertscore_f1", "BERTScore F1", 1, 1),
    ("exact_match", "exact match %", 100, 1),
    ("exact_match_strict", "strict match %", 100, 1),
    ("token_f1", "token F1 %", 100, 1),
)
"""(key, label, factor, decimals)."""

_COUNTS = (("empty", "empty"), ("degenerate", "repeating"), ("unstopped", "cut at the limit"))
TEXT_CHARS = 240
_HEAD = ("", "base", "tuned", "change [95 %]")
_HEAD_ALONE = ("", "score", "[95 %]")


def score_rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(score, base, tuned, change) of every score in the report, as text."""
    base, tuned = report["base"], report["tuned"]
    return [
        (label, _number(base[key], factor, places), _number(tuned.get(key), factor, places), _change(report, *row))
        for row in _ROWS
        for key, label, factor, places in [row]
        if key in base
    ]


def _alone_rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(score, value, interval) of a model with nothing beside it."""
    tuned = report["tuned"]
    return [
        (label, _number(tuned[key], factor, places), _span(report, key, factor, places, sign="").strip())
        for key, label, factor, places in _ROWS
        if key in tuned
    ]


def count_rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """How many answers were empty, repeating or cut, in the columns of `score_rows`."""
    base, tuned = report["counts"]["base"], report["counts"]["tuned"]
    return [
        (f"{label} answers", str(base[key]), str(tuned[key]), f"{tuned[key] - base[key]:+d}") for key, label in _COUNTS
    ]


def _number(value: float | None, factor: int, places: int) -> str:
    if value is None:
        return "n/a"
    if not math.isfinite(value) or value >= 1e7:
        return ">1e7" if value > 0 else "n/a"
    return f"{value * factor:.{places}f}"


def _change(report: dict[str, Any], key: str, label: str, factor: int, places: int) -> str:
    value = report["delta"].get(key)
    if value is None or not math.isfinite(value) or abs(value) >= 1e7:
        return "n/a"
    return f"{value * factor:+.{places}f}{_span(report, key, factor, places)}"


def _span(report: dict[str, Any], key: str, factor: int, places: int, sign: str = "+") -> str:
    found = report["intervals"].get("nll" if key == "loss" else key)
    low, high = (f"{bound * factor:{sign}.{places}f}" for bound in found) if found else ("", "")
    return f"  [{low}, {high}]" if found else ""


def page(report: dict[str, Any]) -> str:
    """The whole report in 80 columns, ready for a file or a terminal."""
    word, *rest = verdict_lines(report)
    lines = [*body_lines(report), f"verdict: {word}{rest[0]}", *rest[1:], ""]
    for number, sample in enumerate(report["samples"], 1):
        lines += [*sample_lines(number, sample), ""]
    return "\n".join(lines).rstrip() + "\n"


def body_lines(report: dict[str, Any]) -> list[str]:
    """Heading, scores, what went wrong with answers, and retention; each part ends with an empty line."""
    lines = [*wrap(heading(report)), ""]
    if report["base"]:
        lines += [*aligned([_HEAD, *score_rows(report)]), ""]
        if any(report["counts"]["base"].values()) or any(report["counts"]["tuned"].values()):
            lines += [*aligned([(*_HEAD[:3], "change"), *count_rows(report)]), ""]
    else:
        lines += [*aligned([_HEAD_ALONE, *_alone_rows(report)]), ""]
        wrong = [f"{report['counts']['tuned'][key]} {label}" for key, label in _COUNTS]
        lines += [f"answers: {', '.join(wrong)}", ""] if any(report["counts"]["tuned"].values()) else []
    return [*lines, *retention_lines(report), *([""] if report.get("retention") else [])]


def retention_lines(report: dict[str, Any]) -> list[str]:
    """Which other texts were read, how many count, and each group's loss."""
    found = report.get("retention")
    if not found:
        return []
    source = sanitize(str(found["source"]), max_chars=60, single_line=True)
    some = f" (of {found['found']})" if found["found"] > found["passages"] else ""
    told = f"other text: {source}, {found['counted']} of {found['passages']} passages count{some}"
    if not found["counted"]:
        return wrap(f"{told}: the base knows too little of them to forget any")
    lines = wrap(f"{told}, {found['tokens']} tokens; a rise beyond {found['bound']:g} is forgetting")
    groups = [(name, group) for name, group in found["groups"].items() if group["counted"]]
    return lines + (aligned([_group_row(name, group) for name, group in groups]) if len(groups) > 1 else [])


def _group_row(name: str, group: dict[str, Any]) -> tuple[str, ...]:
    base, tuned = group["base"], group["tuned"]
    label = sanitize(name, max_chars=24, single_line=True)
    count = f"{group['counted']} of {group['passages']}"
    if tuned is None:
        return f"  {label}", count, _number(base, 1, 4)
    return f"  {label}", count, _number(base, 1, 4), _number(tuned, 1, 4), f"{tuned - base:+.4f}"


def verdict_lines(report: dict[str, Any]) -> list[str]:
    """The verdict's word, and the lines that follow `verdict: WORD`."""
    word = str(report["verdict"] or "none")
    first = f"verdict: {word} - "
    lines = wrap(sanitize(str(report["verdict_reason"])), first=first, rest=" " * 9)
    return [word, lines[0].removeprefix(f"verdict: {word}"), *lines[1:]]


def heading(report: dict[str, Any]) -> str:
    """What was measured, on what, how long it took."""
    rows = f"{report['rows']} of {report['rows_held_out']}"
    what = f"rows of {report['rows_from']}" if report.get("rows_from") else "held-out rows"
    beside = "base against tuned on" if report["base"] else "alone on"
    stored = f"{report['quantization']} base" if not report.get("path") else f"stored as {report['quantization']}"
    return sanitize(
        f"{report['run']}: {beside} {rows} {what} "
        f"({report['dtype']}, {stored}, {report['device']}, {format_duration(report['seconds'])})",
        single_line=True,
    )


def sample_lines(number: int, sample: dict[str, Any]) -> list[str]:
    """One prompt with the reference and the answers."""
    tuned = "tuned" if "base" in sample else "answer"
    parts = (("prompt", "prompt"), ("reference", "wanted"), ("base", "base"), ("tuned", tuned))
    lines: list[str] = []
    for key, label in parts:
        if key in sample:
            text = sanitize(str(sample[key]), max_chars=TEXT_CHARS, single_line=True)
            lines += wrap(text, first=f"{number if not lines else '':>3}  {label:<7} ", rest=" " * 13)
    return lines
