"""The heading of a section of the form: its name, what is in it, and what was changed there. Opens and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui.profile.view import RowState
from tui.text import Part, clip, fit, line

TITLE_CELLS = 14


@dataclass(frozen=True, slots=True)
class HeadingState:
    """What a heading shows."""

    title: str
    labels: tuple[str, ...] = ()
    """Names of the settings in it."""
    open: bool = False
    edited: int = 0
    given: int = 0
    """Settings that the file gives and nobody edited since."""
    problems: int = 0
    words: str = ""
    """What is said of an open section."""


def heading_state(title: str, states: Sequence[RowState], is_open: bool, words: str) -> HeadingState:
    """A heading over rows in these states; `words` are said while it is open."""
    sources = [state.source.partition(":")[0] for state in states]
    return HeadingState(
        title,
        tuple(state.label for state in states),
        is_open,
        sources.count("edited"),
        sources.count("profile"),
        sum(1 for state in states if state.message),
        words,
    )


def heading_content(state: HeadingState, width: int, focused: bool = False) -> Content:
    """A heading: mark, name, what is in it while it is folded, and counts at the right end."""
    counts = _counts(state)
    room = width - 4 - TITLE_CELLS - line(*counts).cell_length - 2
    names = state.words if state.open else ", ".join(state.labels)
    return line(
        (">" if focused else " ", "bold $accent"),
        ("▾ " if state.open else "▸ ", "dim"),
        (fit(state.title, TITLE_CELLS), "bold"),
        (fit(clip(names, room), room), "dim"),
        "  ",
        *counts,
    )


def _counts(state: HeadingState) -> list[Part]:
    """Problems, edited settings and those of the file, as far as there are any."""
    found: list[Part] = []
    for count, word, style in (
        (state.problems, "to look at", "$error"),
        (state.edited, "edited", "$warning"),
        (state.given, "set", "dim"),
    ):
        if count:
            found += [(" · ", "dim")] if found else []
            found.append((f"{count} {word}", style))
    return found


class SectionRow(Widget, can_focus=True):
    """A heading in the form; enter, space and a click open or fold its section."""

    DEFAULT_CSS = "SectionRow { height: 1; width: 1fr; padding: 0 1 0 0; }"
    BINDINGS: ClassVar = [
        Binding("enter,space", "fold", "open or fold", show=False),
        Binding("right,l", "fold(False)", "open", show=False),
        Binding("left,h", "fold(True)", "fold", show=False),
    ]

    class Folded(Message):
        """The section shall be folded, or opened."""

        def __init__(self, title: str, folded: bool) -> None:
            super().__init__()
            self.title, self.folded = title, folded

    def __init__(self, title: str) -> None:
        super().__init__()
        self.state = HeadingState(title)

    def show(self, state: HeadingState) -> None:
        """Replace what the heading shows."""
        if state != self.state:
            self.state = state
            self.refresh()

    def render(self) -> Content:
        """The heading."""
        return heading_content(self.state, self.content_size.width, self.has_focus)

    def action_fold(self, folded: bool | None = None) -> None:
        """Fold or open; without a word, the other of the two."""
        self.post_message(self.Folded(self.state.title, self.state.open if folded is None else folded))

    def on_click(self, event: events.Click) -> None:
        """A click opens or folds."""
        self.action_fold()
