"""A notice: one line above the key bar about what just happened. Which one stands where is up to the app."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from tui.text import Part, clip, line

MARKS: dict[str, Part] = {
    "information": ("· ", "dim"),
    "warning": ("▲ ", "bold $warning"),
    "error": ("✗ ", "bold $error"),
}
"""A sign for each kind: it is seen where colors are not."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What was told, on how many lines ever; `at`: when."""

    text: str
    severity: str = "information"
    at: float = field(default_factory=time.time)

    @property
    def short(self) -> str:
        """The text as one line."""
        return " · ".join(part.strip() for part in self.text.splitlines() if part.strip())


@dataclass(frozen=True, slots=True)
class Told:
    """The last notices, oldest first."""

    notices: tuple[Notice, ...] = ()


def notice_line(notice: Notice, key: str, width: int) -> Content:
    """A notice in `width` columns; one that is cut says which key shows all of it."""
    mark = MARKS.get(notice.severity, MARKS["information"])
    style = mark[1] if notice.severity == "error" else ""
    room = width - 2
    if cell_len(notice.short) <= room:
        return line(mark, (notice.short, style))
    more: list[Part] = ["  ", (key, "bold $accent"), (" reads it", "dim")]
    room -= line(*more).cell_length
    return line(mark, (clip(notice.short, room), style), *more)


def notices_text(notices: tuple[Notice, ...]) -> Content:
    """All that was told, newest first, each whole."""
    parts: list[Part] = []
    for notice in reversed(notices):
        at = time.strftime("%H:%M:%S", time.localtime(notice.at))
        parts += [(f"{at} ", "dim"), MARKS.get(notice.severity, MARKS["information"]), f"{notice.text}\n"]
    return line(*parts)


class NoticeLine(Widget):
    """The line; not there while there is nothing to say. A click reads the notice."""

    DEFAULT_CSS = "NoticeLine { dock: bottom; height: 1; width: 1fr; padding: 0 1; display: none; text-wrap: nowrap; }"

    def __init__(self) -> None:
        super().__init__()
        self._notice: Notice | None = None
        self._key = ""

    def show(self, notice: Notice | None, key: str = "") -> None:
        """Replace the notice, or take it away; `key` reads it whole."""
        self._notice, self._key = notice, key
        self.set_class(notice is not None, "-told")
        self.refresh()

    def render(self) -> Content:
        """The notice, as far as there is room."""
        return notice_line(self._notice, self._key, self.content_size.width) if self._notice else Content("")

    async def on_click(self) -> None:
        """Read it whole."""
        await self.run_action("app.command('notices')")
