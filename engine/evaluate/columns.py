"""Text laid out in 80 columns of a terminal, wide characters counted as two. No torch here.

Used by `page.py`. Text that came from outside is sanitised before it comes here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

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
