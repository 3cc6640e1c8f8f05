"""`NO_COLOR`: styles lose their colors on the way to the terminal; bold, dim, reverse and underline stay.

Textual's own filter turns colors into shades of gray, which sixteen colors show as black on black. What a
background alone would tell, `styles/no_color.tcss` tells by an attribute or an edge. It asks for reverse by a
background of `MARK`: `text-style: reverse` does not reach the parts of Textual's lists and inputs.
"""

from __future__ import annotations

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

MARK = Color.parse("ansi_bright_white").rich_color
_REVERSE = Style(reverse=True)


@lru_cache(1024)
def without_color(style: Style) -> Style:
    """The attributes of `style`, reversed where its background is `MARK`, and what a click on it means."""
    bare = style.without_color
    if style.bgcolor == MARK:
        bare += _REVERSE
    return bare + Style.from_meta(style.meta) if style.meta else bare


class ColorlessFilter(LineFilter):
    """Drops colors and keeps everything else."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Segments of the same texts."""
        return [Segment(text, style and without_color(style), control) for text, style, control in segments]
