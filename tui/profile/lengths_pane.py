"""The lengths of a profile's documents with `max_length` as a line; the arrows and the mouse move it."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from engine.api.profiles import LengthChoices
from tui.profile.lengths_view import facts_lines, histogram_lines, index_at

_FACT_LINES, _NARROW_FACT_LINES = 2, 3
_NORMAL = 76
_HEIGHTS = ((20, 3), (34, 6), (1000, 11))
"""Lines of a screen, and below that how many the picture takes with its axis."""


class LengthsPane(Widget):
    """The picture; nothing is seen until `show` was called."""

    DEFAULT_CSS = "LengthsPane { height: auto; width: 1fr; display: none; text-wrap: nowrap; }"

    def __init__(self) -> None:
        super().__init__(id="data-lengths")
        self.choices: LengthChoices | None = None
        self._index = 0
        self._dragged = False

    def show(self, choices: LengthChoices | None) -> None:
        """Show documents, the line on the profile's own length; None hides the picture."""
        self.choices = choices
        self.display = choices is not None
        if choices is not None:
            self._index = choices.index_of(choices.max_length)
            self.refresh(layout=True)

    @property
    def chosen(self) -> int | None:
        """The length under the line, where it is another than the profile's."""
        if self.choices is None or self.choices.at[self._index].max_length == self.choices.max_length:
            return None
        return self.choices.at[self._index].max_length

    def move(self, step: int) -> None:
        """Move the line `step` lengths to the right."""
        if self.choices is not None:
            self._to(self._index + step)

    def leap(self, step: int) -> None:
        """Move the line to the next power of two."""
        if self.choices is None:
            return
        index = self._index + step
        while 0 < index < len(self.choices.at) - 1 and not _is_power(self.choices.at[index].max_length):
            index += step
        self._to(index)

    def _to(self, index: int) -> None:
        assert self.choices is not None
        self._index = max(0, min(len(self.choices.at) - 1, index))
        self.refresh()

    # Drawing

    @property
    def _fact_lines(self) -> int:
        return _FACT_LINES if self.app.size.width >= _NORMAL else _NARROW_FACT_LINES

    @property
    def _picture_lines(self) -> int:
        return next(lines for most, lines in _HEIGHTS if self.app.size.height < most)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Picture, axis, facts."""
        return self._picture_lines + self._fact_lines

    def render(self) -> Content:
        """The facts above the picture."""
        if self.choices is None:
            return Content("")
        width = self.content_size.width
        told = facts_lines(self.choices, self._index, width, self._fact_lines)
        told += [Content("")] * (self._fact_lines - len(told))
        drawn = histogram_lines(self.choices, self._index, width, self._picture_lines)
        return Content("\n").join([*told, *drawn])

    # Mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """The line goes where the mouse is, and follows it."""
        if self.choices is not None:
            self._dragged = True
            self.capture_mouse()
            self._to_column(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Follow the mouse while its button is held."""
        if self._dragged:
            self._to_column(event.x)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Stay there."""
        self._dragged = False
        self.release_mouse()

    def _to_column(self, column: int) -> None:
        if self.choices is not None:
            left = self.styles.padding.left
            self._to(index_at(self.choices, self.content_size.width, column - left))


def _is_power(length: int) -> bool:
    return length & (length - 1) == 0
