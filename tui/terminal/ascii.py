"""`--ascii`: every character the deck draws with, turned into ASCII on its way to the terminal.

One filter over all widgets, so that no widget needs two sets of glyphs. Letters of other scripts in
a person's data stay as they are.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_PAIRS = {
    "█": "#", "▓": "%", "▒": "=", "░": ".", "▏": "|", "▌": "|", "▐": "|", "▼": "v", "▲": "^", "▸": ">", "▾": "v",
    "─": "-", "━": "=", "│": "|", "┃": "|", "┤": "|", "├": "|", "└": "+", "┘": "+", "┌": "+", "┐": "+", "┬": "+",
    "┴": "+", "┼": "+", "╭": "+", "╮": "+", "╯": "+", "╰": "+", "═": "=", "║": "|", "╸": "-", "╺": "-", "•": "*",
    "…": "~", "·": "-", "×": "x", "→": ">", "←": "<", "↑": "^", "↓": "v", "–": "-", "—": "-", "−": "-", "⏎": "|",
    "○": "o", "●": "o", "✓": "+", "✗": "x", "°": " ", "‘": "'", "’": "'", "“": '"', "”": '"', "²": "2", "▔": "-",
    "▁": "_", "▂": "_", "▃": "_", "▄": "_", "▅": "#", "▆": "#", "▇": "#", "▀": "-", "▎": "|", "▊": "#", "▕": "|",
    "\ufffd": "?", "┆": ":", "┄": "-", "⟦": "[", "⟧": "]", "◆": "*", "≤": "<",
    "▙": "&", "▚": "/", "▞": "$", "▖": ":", "▗": "+", "╳": "X",
}  # fmt: skip


def _braille(code: int) -> str:
    """The ASCII character nearest to a braille cell: by where its dots are."""
    rows = [code & 0x09, code & 0x12, code & 0x24, code & 0xC0]
    filled = [bool(row) for row in rows]
    if not code:
        return " "
    if sum(filled) >= 3:
        return "|"
    if filled[0] and not filled[2] and not filled[3]:
        return "'"
    return "-" if filled[1] or (filled[2] and not filled[3]) else "."


TABLE = str.maketrans({**_PAIRS, **{chr(0x2800 + code): _braille(code) for code in range(256)}})
HAZE = TABLE | {0x2800 + code: "." for code in range(1, 256)}
"""For what is dim: of a chart the raw values, which no line may be mistaken for."""


class AsciiFilter(LineFilter):
    """Translates drawn characters one to one, so that columns stay where they are."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Segments with the same styles and widths."""
        return [
            Segment(text.translate(HAZE if style and style.dim else TABLE), style, control)
            for text, style, control in segments
        ]
