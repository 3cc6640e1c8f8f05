"""The evaluation report as a page of text: for `eval/report.txt` and the terminal. No torch here.

Called by `run.py` and by `engine evaluate`. Everything that came from data or a model is sanitised.
"""

from __future__ import annotations

import math
from typing import Any

from engine.text import format_duration, sanitize

_ROWS = (
    ("perplexity", "perplexity", 1, 3),
    ("loss", "loss per token", 1, 4),
    ("relevance", "gain from the prompt", 1, 3),
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
TEXT_CHARS = 300


def score_rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(score, base, tuned, change) of every score in the report, as text."""
    base, tuned = report["base"], report["tuned"]
    return [
        (label, _number(base[key], factor, places), _number(tuned.get(key), factor, places), _change(report, *row))
        for row in _ROWS
        for key, label, factor, places in [row]
        if key in base
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
    low_high = report["intervals"].get("nll" if key == "loss" else key)
    span = f"  [{low_high[0] * factor:+.{places}f}, {low_high[1] * factor:+.{places}f}]" if low_high else ""
    return f"{value * factor:+.{places}f}{span}"


def page(report: dict[str, Any]) -> str:
    """The whole report, ready for a file or a terminal."""
    lines = [heading(report), "", *_columns(score_rows(report)), ""]
    if any(report["counts"]["base"].values()) or any(report["counts"]["tuned"].values()):
        lines += [*_columns(count_rows(report)), ""]
    lines += [f"verdict: {report['verdict']} - {report['verdict_reason']}", ""]
    for number, sample in enumerate(report["samples"], 1):
        lines += [*sample_lines(number, sample), ""]
    return "\n".join(lines).rstrip() + "\n"


def heading(report: dict[str, Any]) -> str:
    """What was measured, on what, how long it took."""
    return sanitize(
        f"{report['run']}: base against tuned on {report['rows']} of {report['rows_held_out']} held-out rows "
        f"({report['dtype']}, {report['quantization']} base, {report['device']}, {format_duration(report['seconds'])})",
        single_line=True,
    )


def _columns(rows: list[tuple[str, str, str, str]]) -> list[str]:
    table = [("", "base", "tuned", "change [95 %]"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    return [
        f"{row[0].ljust(widths[0])}  {row[1].rjust(widths[1])}  {row[2].rjust(widths[2])}  {row[3]}".rstrip()
        for row in table
    ]


def sample_lines(number: int, sample: dict[str, Any]) -> list[str]:
    """One prompt with the reference and both answers."""
    parts = (("prompt", "prompt"), ("reference", "wanted"), ("base", "base"), ("tuned", "tuned"))
    shown = [(label, sanitize(str(sample[key]), max_chars=TEXT_CHARS, single_line=True)) for key, label in parts]
    return [f"{number if not place else '':>3}  {label:<7} {text}" for place, (label, text) in enumerate(shown)]
