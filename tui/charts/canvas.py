"""Braille dots on a grid of characters: a character is two dots wide and four high.

`tui.terminal.ascii` replaces the characters where the terminal shows ASCII alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from tui.charts.bars import joined

Styled = tuple[str, str]
"""Characters and their style."""
Places = Sequence[tuple[int, int]]
"""Dots from left to right."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
LETTER_EVERY = 18
"""Characters between two letters of one curve."""


class Canvas:
    """Braille dots with a style per cell. Where a line runs, the haze of raw values gives way to it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _ in range(height)]
        self._lines = [[0] * width for _ in range(height)]
        self._glyphs: list[list[str]] = [[""] * width for _ in range(height)]
        self._styles = [[""] * width for _ in range(height)]

    @property
    def dots(self) -> tuple[int, int]:
        """Dots across and down."""
        return self.width * 2, self.height * 4

    def _holds(self, x: int, y: int) -> bool:
        return 0 <= x < self.width * 2 and 0 <= y < self.height * 4

    def dot(self, x: int, y: int, style: str) -> None:
        """Set one dot; (0, 0) is top left, dots outside are ignored."""
        if self._holds(x, y):
            self._bits[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            self._styles[y // 4][x // 2] = style

    def line_dot(self, x: int, y: int, style: str) -> None:
        """Set one dot of a line."""
        if self._holds(x, y):
            self._lines[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            self._styles[y // 4][x // 2] = style

    def column(self, x: int, top: int, bottom: int, style: str) -> None:
        """Set the dots of a column from `top` to `bottom`."""
        for y in range(max(0, top), min(self.height * 4 - 1, bottom) + 1):
            self.dot(x, y, style)

    def line(self, places: Places, style: str) -> None:
        """Connect dots."""
        for index, (x, y) in enumerate(places):
            before_x, before_y = places[max(0, index - 1)]
            steps = max(abs(x - before_x), abs(y - before_y), 1)
            for step in range(1, steps + 1):
                share = step / steps
                self.line_dot(round(before_x + (x - before_x) * share), round(before_y + (y - before_y) * share), style)

    def behind(self, x: int, y: int, character: str, style: str) -> None:
        """Put a character into the cell of dot (x, y) where nothing else is."""
        if self._holds(x, y):
            row, column = y // 4, x // 2
            if not (self._bits[row][column] or self._lines[row][column] or self._glyphs[row][column]):
                self.glyph(x, y, character, style)

    def glyph(self, x: int, y: int, character: str, style: str) -> None:
        """Put a character into the cell of dot (x, y)."""
        if self._holds(x, y):
            self._glyphs[y // 4][x // 2] = character
            self._styles[y // 4][x // 2] = style

    def letters(self, letter: str, style: str, number: int, places: Places) -> None:
        """A curve's letter at its end and here and there on the way, at other places for each curve."""
        if not letter or not places or places[0] == places[-1]:
            return
        bold = f"bold {style}".replace("bold dim", "dim")
        due = 2 * (number * LETTER_EVERY // 4 + 3)
        for x, y in places:
            if x >= due:
                self.glyph(x, min(max(y, 0), self.height * 4 - 1), letter, bold)
                due = x + 2 * LETTER_EVERY
        self.glyph(*places[-1], letter, bold)

    def rows(self) -> list[list[Styled]]:
        """Rows of runs of equal style."""
        return [self._row(y) for y in range(self.height)]

    def _row(self, y: int) -> list[Styled]:
        cells = zip(self._bits[y], self._lines[y], self._glyphs[y], self._styles[y], strict=True)
        return joined(
            (glyph or (chr(0x2800 + (bits or haze)) if bits or haze else " "), style)
            for haze, bits, glyph, style in cells
        )
