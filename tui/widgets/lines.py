"""Small quiet widgets: a line that repaints only when it changed, and a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui.text import Part, spread


def does(command_id: str, *arguments: object) -> str:
    """A style by which a click on the text carries out a command of the deck."""
    given = "".join(f", {argument!r}" for argument in arguments)
    return f"@click=app.command('{command_id}'{given})"


def presses(key: str) -> str:
    """A style by which a click on the text does what `key` does."""
    return f"@click=app.simulate_key('{key}')"


def hint(shown: str, key: str = "") -> list[Part]:
    """A key as hints name it; a click on it presses `key`, by default what is shown."""
    return [(shown, f"bold $accent {presses(key or shown)}")]


class Line(Static):
    """Content that is set often and repainted only when it differs."""

    auto_links = False

    def __init__(self, content: Content | str = "", *, id: str | None = None, classes: str | None = None) -> None:
        shown = Content(content) if isinstance(content, str) else content
        super().__init__(shown, id=id, classes=classes, markup=False)
        self.shown = shown

    def show(self, content: Content, *, wraps: bool = False) -> None:
        """Replace the content; `wraps`: its height may change without a line break."""
        if not content.is_same(self.shown):
            height_changes = content.plain.count("\n") != self.shown.plain.count("\n")
            self.shown = content
            self.update(content, layout=height_changes or wraps)


class Ends(Widget):
    """One line with a left and a right part, laid out for the width it has."""

    DEFAULT_CSS = "Ends { height: 1; width: 1fr; }"
    auto_links = False  # what can be clicked looks like the rest

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._left: list[Part] = []
        self._right: list[Part] = []

    def show(self, left: list[Part], right: list[Part]) -> None:
        """Replace both parts."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.refresh()

    def render(self) -> Content:
        """The line."""
        return spread(self._left, self._right, self.content_size.width)


class Drawn(Widget):
    """Content made by a function of some data and the width there is; drawn again when either changes."""

    DEFAULT_CSS = "Drawn { height: 1; width: 1fr; text-wrap: nowrap; }"
    auto_links = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._draw: Callable[..., Content] | None = None
        self._data: tuple[Any, ...] = ()

    def show(self, draw: Callable[..., Content], *data: Any) -> None:
        """Show `draw(*data, width)`."""
        if draw is not self._draw or data != self._data:
            self._draw, self._data = draw, data
            self.refresh()

    def render(self) -> Content:
        """What the function makes of the data."""
        return self._draw(*self._data, self.content_size.width) if self._draw else Content("")


class Rule(Widget):
    """A thin line between parts of a screen."""

    DEFAULT_CSS = "Rule { height: 1; width: 1fr; color: $deck-rule; }"

    def render(self) -> Content:
        """As many dashes as the screen is wide."""
        return Content("─" * self.size.width)
