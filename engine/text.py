"""Making untrusted text safe to show, and sizes and durations short to read.

Everything that came from data, model files, logs or TOML passes `sanitize` before it reaches a
terminal or a widget: Textual and most terminals pass escape sequences straight through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

SECRET = re.compile(
    r"hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{16}|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"
)
"""Tokens of the hub, of other services, and passwords in addresses."""


def hide_secrets(text: str) -> str:
    """`text` without what looks like a token or a password."""
    return SECRET.sub("[secret]", text)


def sanitize(text: str, *, max_chars: int = 1000, single_line: bool = False) -> str:
    """Text without control, bidirectional or surrogate characters, cut to `max_chars` with an ellipsis.

    Each removed character shows as U+FFFD so that a reader sees something was there. Tabs become
    spaces; newlines stay unless `single_line`, where they show as a return sign.
    """
    shown = text[: max_chars + 1].replace("\r\n", "\n").replace("\t", "    ")
    if single_line:
        shown = shown.replace("\n", "⏎")
    shown = _UNSAFE.sub("\ufffd", shown)
    return shown if len(shown) <= max_chars and len(text) <= max_chars else shown[: max_chars - 1] + "…"


def format_bytes(count: int | float | None) -> str:
    """`41.0 GiB`, `161 MiB`, `n/a`."""
    if count is None:
        return "n/a"
    sign, size = ("-" if count < 0 else ""), abs(float(count))
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{sign}{size:.0f} {unit}"
        size /= 1024
    return f"{sign}{size:.1f} GiB" if size < 1000 else f"{sign}{size:,.0f} GiB"


def format_duration(seconds: float | None) -> str:
    """`38 s`, `4 min 10 s`, `1 h 13 min`, `2 d 4 h`, `n/a`."""
    if seconds is None or seconds != seconds or seconds < 0:
        return "n/a"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_count(count: int | float | None) -> str:
    """`134.5 M`, `8.03 B`, `9,981`."""
    if count is None:
        return "n/a"
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if abs(count) >= limit:
            return f"{count / limit:.4g} {unit}"
    return f"{count:,.0f}"


WIDTH = 80


def columns_of(text: str) -> int:
    """Terminal columns that `text` takes."""
    return sum(_width(letter) for letter in text)


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def wrap(text: str, *, first: str = "", rest: str = "", width: int = WIDTH) -> list[str]:
    """`text` in lines of at most `width` columns, broken at spaces where there are any."""
    lines: list[str] = []
    line = first
    empty = True
    for word in text.split():
        for piece in _pieces(word, width - max(columns_of(first), columns_of(rest))):
            blank = "" if empty else " "
            if not empty and columns_of(line) + len(blank) + columns_of(piece) > width:
                lines.append(line)
                line, blank = rest, ""
            line, empty = line + blank + piece, False
    return [*lines, line.rstrip()]


def _pieces(word: str, room: int) -> list[str]:
    """`word` whole, or cut where it is wider than a line: Chinese and Japanese have no spaces."""
    if columns_of(word) <= room:
        return [word]
    pieces, used = [""], 0
    for letter in word:
        if used + _width(letter) > room:
            pieces.append("")
            used = 0
        pieces[-1] += letter
        used += _width(letter)
    return pieces


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table: the first column to the left, the last as it is, those between to the right."""
    last = len(rows[0]) - 1
    widths = [max(columns_of(row[column]) for row in rows) for column in range(last)]
    return [
        "  ".join(
            [
                row[0] + " " * (widths[0] - columns_of(row[0])),
                *(" " * (widths[column] - columns_of(row[column])) + row[column] for column in range(1, last)),
                row[last],
            ]
        ).rstrip()
        for row in rows
    ]
