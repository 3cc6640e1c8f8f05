"""Answers to a run's fixed prompts, over the screen that asked for them: prompts up and down, steps left and right."""

from __future__ import annotations

from functools import partialmethod
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content

from tui.answers.view import Place, first_line, head, strips_text
from tui.reading.strips import Strip
from tui.text import Part, line
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Ends, Line, Rule

_KEYS: tuple[tuple[str, str], ...] = (
    ("← →", "step"),
    ("↑ ↓", "prompt"),
    ("0", "base"),
    ("G", "newest"),
    ("pgup pgdn", "scroll"),
    ("esc", "close"),
)


class AnswersBody(VerticalScroll, inherit_bindings=False):
    """The answers. Only pages scroll: arrows, home and end belong to steps and prompts."""

    BINDINGS: ClassVar = [Binding("pageup", "page_up", show=False), Binding("pagedown", "page_down", show=False)]


class AnswersScreen(Modal[None]):
    """The strips of one run; `update` shows what was answered meanwhile."""

    BINDINGS: ClassVar = [
        ("escape,q,a,enter", "close", "close"),
        ("left,h", "earlier", "earlier step"),
        ("right,l", "later", "later step"),
        ("up,k", "above", "prompt above"),
        ("down,j", "below", "prompt below"),
        ("0,home", "base", "base"),
        ("G,end", "newest", "newest step"),
    ]

    def __init__(self, strips: tuple[Strip, ...]) -> None:
        super().__init__()
        self.place = Place()
        self._strips = strips

    def compose(self) -> ComposeResult:
        """Headline, the answers, keys."""
        yield Ends(id="answers-head")
        yield Rule()
        with AnswersBody(id="answers-body"):
            yield Line(id="answers-text")
        yield Line(_keys(), id="answers-keys")

    def on_mount(self) -> None:
        """Draw once the width is known."""
        self.query_one(VerticalScroll).focus()
        self.call_after_refresh(self._show)

    def on_resize(self, event: events.Resize) -> None:
        """Lay the columns out for the new width."""
        self.call_after_refresh(self._show)

    def update(self, strips: tuple[Strip, ...]) -> None:
        """Show the answers as they are now, at the same place."""
        if strips != self._strips:
            self._strips = strips
            self._show()

    @property
    def _width(self) -> int:
        return max(20, self.query_one("#answers-text").content_size.width)

    def _show(self) -> None:
        if not self.is_mounted or not self.query("#answers-text"):
            return
        self.place = self.place.within(self._strips)
        self.query_one("#answers-head", Ends).show(*head(self._strips, self.place))
        self.query_one("#answers-text", Line).show(strips_text(self._strips, self.place, self._width))

    def _go(self, place: Place) -> None:
        prompt, self.place = self.place.prompt, place.within(self._strips)
        self._show()
        body = self.query_one(VerticalScroll)
        if self.place.prompt != prompt:
            at = first_line(self._strips, self.place, self._width)
            self.call_after_refresh(body.scroll_to, y=at, animate=False)

    def _step(self, by: int) -> None:
        self._go(self.place.moved(self._strips, by))

    def _prompt(self, by: int) -> None:
        self._go(Place(self.place.prompt + by, self.place.answer))

    action_earlier = partialmethod(_step, -1)
    action_later = partialmethod(_step, 1)
    action_above = partialmethod(_prompt, -1)
    action_below = partialmethod(_prompt, 1)

    def action_base(self) -> None:
        """Go to the base's answer."""
        self._go(Place(self.place.prompt, 0))

    def action_newest(self) -> None:
        """Go to the newest answer, and stay with it."""
        self._go(Place(self.place.prompt))

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)


def _keys() -> Content:
    parts: list[Part] = []
    for key, word in _KEYS:
        parts += [(key, "bold $accent"), (f" {word}  ", "dim")]
    return line(*parts)
