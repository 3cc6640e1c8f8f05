"""The lines of the run screen's log: cut with a sign where they are too long, or wrapped under their text."""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Log

KEPT_LOG_LINES = 2000
INDENT = " " * len("hh:mm:ss ")
"""Further lines begin under the text, not under the time."""
_LEAST = 20
"""Columns below which wrapped text is no longer read."""


def wrapped(text: str, width: int) -> list[str]:
    """A line as one or more that fit `width`, broken between words."""
    if cell_len(text) <= width or width < _LEAST:
        return [text]
    if cell_len(text) == len(text):
        return textwrap.wrap(text, width, subsequent_indent=INDENT, break_on_hyphens=False) or [text]
    first, *more = chop_cells(text, width - len(INDENT))  # wide characters: by cells
    return [first, *(INDENT + part for part in more)]


def whole_lines(texts: Iterable[str], width: int) -> Content:
    """Lines of the log, each whole."""
    return Content("\n".join(part for text in texts for part in wrapped(text, width)))


class RunLog(Log, inherit_bindings=False):
    """The lines. They scroll up and down only: left and right belong to the crosshair of the curve.

    The log follows its end until somebody scrolls up, and again once the end is in sight. A line that is too long ends
    in `…`, or goes on below where the log has the whole screen.
    """

    class Read(Message):
        """The lines in sight shall be read whole."""

    BINDINGS: ClassVar = [
        Binding("up", "scroll_up", show=False),
        Binding("down", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("enter", "read", show=False),
    ]
    following = True
    _wraps = False

    def __init__(self) -> None:
        super().__init__(max_lines=KEPT_LOG_LINES, id="log")
        self._texts: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self._origins: deque[int] = deque(maxlen=KEPT_LOG_LINES)
        """For each line shown the number of the text it belongs to, counted from the first one ever put here."""
        self._count = 0
        self._laid_out_for = 0

    @property
    def texts(self) -> list[str]:
        """What was put here, a line each, whole."""
        return list(self._texts)

    @property
    def in_sight(self) -> list[str]:
        """The lines that are seen, at least in part, whole."""
        top = round(self.scroll_y)
        seen = dict.fromkeys(list(self._origins)[top : top + self.size.height])
        oldest = self._count - len(self._texts)
        return [self._texts[number - oldest] for number in seen if number >= oldest]

    def put(self, texts: Sequence[str]) -> None:
        """Add lines at the end."""
        shown: list[str] = []
        for text in texts:
            parts = wrapped(text, self._room) if self._wraps else [text]
            self._origins.extend([self._count] * len(parts))
            shown += parts
            self._count += 1
        self._texts.extend(texts)
        self.write_lines(shown)

    def empty(self) -> None:
        """Forget all lines."""
        self._texts.clear()
        self._origins.clear()
        self.clear()

    def _lay_out(self) -> None:
        """Put all lines anew for the present width; the line at the top stays there."""
        top = round(self.scroll_y)
        at_top = self._origins[top] if top < len(self._origins) else None
        texts = list(self._texts)
        self._laid_out_for = self._room
        self._count -= len(texts)
        self.empty()
        self.put(texts)
        if self.following:
            self.keep_following()
        elif at_top is not None and at_top in self._origins:
            self.call_after_refresh(self.scroll_to, y=self._origins.index(at_top), animate=False)

    @property
    def _room(self) -> int:
        return self.scrollable_content_region.width or self.size.width

    def _render_line(self, y: int, scroll_x: int, width: int) -> Strip:
        """A line; one that does not fit ends in a sign that it goes on."""
        strip, room = super()._render_line(y, scroll_x, width), min(width, self._room)
        if y < len(self._lines) and cell_len(self._lines[y]) > room:
            return Strip([*strip.crop(0, room - 1), Segment("…", self.rich_style)], room)
        return strip

    def action_read(self) -> None:
        """Read the lines in sight whole."""
        self.post_message(self.Read())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up ends following at once, before the next line comes."""
        super().watch_scroll_y(old_value, new_value)
        at_end = new_value >= self.max_scroll_y
        if at_end or new_value < old_value:
            self.following = at_end

    def on_resize(self, event: events.Resize) -> None:
        """Another height moves the end out of sight, another width moves the ends of lines.

        Lines wrap where the log has the whole screen.
        """
        wraps = self.screen.has_class("-log")
        if wraps != self._wraps or (wraps and self._room != self._laid_out_for):
            self._wraps = wraps
            self.call_after_refresh(self._lay_out)
        self.keep_following()

    def keep_following(self) -> None:
        """Scroll to the end if it was in sight before the lines or the size changed."""
        if self.following:
            self.call_after_refresh(self._to_end)

    def _to_end(self) -> None:
        if self.following:
            self.scroll_end(animate=False, immediate=True)
