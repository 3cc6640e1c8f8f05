"""The overview of a run as columns of text: sections below each other, every line whole. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from engine.api import overview
from engine.api.overview import Overview, Section
from tui.text import STATE_STYLES, Part, line, safe

TWO_COLUMNS = 140
"""Columns of the terminal from which on the page has two."""
LEFT = frozenset({"run", "warnings", "planned", "chosen", "data", "machine", "versions"})
STYLES = {"label": "dim", "text": "", "note": "dim", "warning": "$warning", "error": "$error"}
_TITLES = {"warnings": "bold $warning"}


def columns(parts: Sequence[Section], width: int) -> list[tuple[Section, ...]]:
    """The sections of each column: two where there is room, with the timeline at the top of the second."""
    if width < TWO_COLUMNS:
        return [tuple(parts)]
    left = tuple(part for part in parts if part.name in LEFT)
    right = tuple(part for part in parts if part.name not in LEFT)
    return [column for column in (left, right) if column]


def column_text(parts: Sequence[Section], width: int) -> tuple[Content, tuple[int, ...]]:
    """One column, and the lines on which its sections begin."""
    lines: list[Content] = []
    begins: list[int] = []
    for part in parts:
        lines += [Content("")] if lines else []
        begins.append(len(lines))
        lines.append(Content.styled(safe(part.title, 200), _TITLES.get(part.name, "bold")))
        lines += [_line(pieces) for pieces in overview.laid_out(part, width - 2)]
    return Content("\n").join(lines), tuple(begins)


def _line(pieces: Sequence[tuple[str, str]]) -> Content:
    return line("  ", *((safe(text, 1000), STYLES.get(kind, "")) for text, kind in pieces))


def head(name: str, found: Overview | None) -> tuple[list[Part], list[Part]]:
    """Which run, and what it does."""
    left: list[Part] = [("overview ", "dim"), (safe(name, 60), "bold")]
    if found is None:
        return left, [("reading the run …", "dim")]
    return left, [(safe(found.state, 20), STATE_STYLES.get(found.state, "dim"))]


def nothing(words: str) -> Content:
    """What stands in place of rows when none has the words."""
    return Content.styled(f"nothing here has '{safe(words, 60)}'; esc shows all", "dim")
