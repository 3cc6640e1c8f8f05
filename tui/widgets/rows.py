"""A list of one-line rows, drawn for the width there is; the current one is marked and uncoloured.

An OptionList underneath: arrows, page keys, mouse and scrolling are Textual's. A row is a function of width and of
whether it is current, so columns line up at any size and colours never clash with the cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from textual import events
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

Draw = Callable[[int, bool], Content]


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its key; `draw(width, current)` gives exactly one line."""

    key: str
    draw: Draw


class Rows(OptionList):
    """A list of drawn rows. Posts OptionList's own messages."""

    def __init__(self, *, id: str | None = None, marked_unfocused: bool = True) -> None:
        super().__init__(id=id, compact=True, markup=False)
        self._marked_unfocused = marked_unfocused
        self.rows: list[Row] = []
        self._marked: int | None = None
        self._drawn: list[Content] = []
        self._clicked = ""
        """The row that the last click chose, while it has the cursor: a second click there opens it."""

    @property
    def room(self) -> int:
        """Columns that a row may fill."""
        return max(10, self.scrollable_content_region.width or self.size.width)

    @property
    def _marks(self) -> bool:
        return self._marked_unfocused or self.has_focus

    def on_focus(self) -> None:
        """The mark appears."""
        self.redraw()

    def on_blur(self) -> None:
        """The mark may go."""
        self.call_after_refresh(self.redraw)

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        index = self.highlighted
        return self.rows[index] if index is not None and index < len(self.rows) else None

    def places(self) -> Iterator[tuple[int, int, Callable[[], None]]]:
        """Where each seen row is on the screen, and how to go to it."""
        region, first = self.scrollable_content_region, round(self.scroll_y)
        area = self.content_region
        for index in range(first, min(len(self.rows), first + region.height)):
            yield area.x, area.y + index - first, partial(self._go, index)

    def _go(self, index: int) -> None:
        self.focus()
        self.highlighted = index

    def on_click(self, event: events.Click) -> None:
        """One click chooses a row, a second one opens it. Textual's lists open with the first."""
        event.prevent_default()
        index = event.style.meta.get("option")
        if index is None or index >= len(self.rows):
            return
        again = index == self.highlighted and self._clicked == self.rows[index].key
        self.highlighted, self._clicked = index, self.rows[index].key
        if again:
            self.action_select()

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Replace all rows; the cursor stays on the row with the same key, else on the same line."""
        before = self.current.key if self.current else None
        keys = [row.key for row in rows]
        line = min(self.highlighted or 0, len(rows) - 1)
        target = keys.index(before) if before in keys else line
        same = keys == [row.key for row in self.rows]
        self.rows = list(rows)
        if same:
            self.redraw()
            return
        with self.prevent(OptionList.OptionHighlighted):
            self._marked = None
            self._drawn = [row.draw(self.room, index == target and self._marks) for index, row in enumerate(self.rows)]
            self.set_options([Option(shown) for shown in self._drawn])
            self._marked = target if rows else None
            self.highlighted = self._marked
        if rows:
            self.post_message(self.OptionHighlighted(self, self.get_option_at_index(target), target))

    def redraw(self) -> None:
        """Draw rows that look different now."""
        for index, row in enumerate(self.rows):
            self._draw_row(index, row.draw(self.room, index == self.highlighted and self._marks))
        self._marked = self.highlighted

    def _draw_row(self, index: int, shown: Content) -> None:
        if not shown.is_same(self._drawn[index]):
            self._drawn[index] = shown
            self.replace_option_prompt_at_index(index, shown)

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Move the mark with the cursor."""
        super().watch_highlighted(highlighted)
        if self.current is None or self.current.key != self._clicked:
            self._clicked = ""
        for index in (self._marked, highlighted):
            if index is not None and index < min(len(self.rows), len(self._drawn), self.option_count):
                self._draw_row(index, self.rows[index].draw(self.room, index == highlighted and self._marks))
        self._marked = highlighted

    def on_resize(self, event: events.Resize) -> None:
        """Columns depend on the width."""
        self.call_after_refresh(self.redraw)
