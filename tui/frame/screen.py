"""What every screen of the deck has: its name, a tab line, the key bar, and a word when it is too small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.errors import NoWidget
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from tui.frame.deck import Deck, deck_of
from tui.frame.jump import Target
from tui.frame.keybar import KeyBar
from tui.text import Part, line, middle
from tui.widgets.dialogs import drop_stale
from tui.widgets.lines import Ends, does
from tui.widgets.panes import notify
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from tui.frame.session import DeckState

MIN_WIDTH, MIN_HEIGHT = 60, 16
TABS = (
    ("fit", "1 Fit"),
    ("profile", "2 Profile"),
    ("run", "3 Run"),
    ("runs", "4 Runs"),
    ("results", "5 Results"),
    ("cards", "6 GPUs"),
)


def tab_line(name: str, facts: Sequence[Part], width: int) -> tuple[list[Part], list[Part]]:
    """The names of the screens, that of `name` marked, and as many of `facts` as there is room for at the right end.

    The names are never cut. The first fact stays, cut where it has to be.
    """
    parts: list[Part] = []
    for screen, label in TABS:
        look = "bold $accent underline" if screen == name else "dim"
        parts += [" ", (label, f"{look} {does(screen)}")]
    room = width - line(*parts).cell_length - 1
    right: list[Part] = []
    for fact in facts:
        text, style = (fact, "dim") if isinstance(fact, str) else fact
        used = line(*right).cell_length
        if right and used + 3 + cell_len(text) > room:
            break
        right += [*([(" · ", "dim")] if right else []), (middle(text, room), style)]
    title: list[Part] = [("tunedeck", "bold"), "  "]
    fits = line(*title, *right).cell_length <= room
    return [*(title if fits else []), *parts], right


class TooSmall(Widget):
    """Shown in place of a screen that has no room."""

    def render(self) -> Content:
        """How much room there is and how much is needed."""
        width, height = self.app.size
        return Content(f"too small: {width}x{height}\nneeds {MIN_WIDTH}x{MIN_HEIGHT}")


class DeckScreen(Screen[None]):
    """Base of every screen; a subclass gives `NAME` and `compose_body`."""

    NAME: ClassVar[str] = ""
    AUTO_FOCUS = ""
    FIELD_WORDS: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """What enter and escape do in the fields of the screen, by their ids, for the key bar."""
    was_seen = True
    """False while it is made ahead of its first visit."""
    _had_keyboard: Widget | None = None

    @property
    def deck_app(self) -> Deck:
        """The app, as far as screens know it."""
        return deck_of(self)

    @property
    def deck(self) -> DeckState:
        """What the screens share."""
        return self.deck_app.deck

    def compose(self) -> ComposeResult:
        """The body, the key bar, and the message for a tiny terminal."""
        yield TooSmall()
        yield from self.compose_body()
        yield KeyBar(self.NAME, self.FIELD_WORDS)

    def compose_body(self) -> ComposeResult:
        """The widgets of the screen."""
        raise NotImplementedError

    def on_resize(self, event: events.Resize) -> None:
        """Swap to the message and back; a size that the terminal no longer has changes nothing."""
        if drop_stale(event, self.app.size):
            return
        tiny = event.size.width < MIN_WIDTH or event.size.height < MIN_HEIGHT
        if tiny and not self.has_class("-tiny"):
            self._had_keyboard = self.focused
        self.set_class(tiny, "-tiny")
        if not tiny and self._had_keyboard is not None:
            self.call_after_refresh(self._give_keyboard_back)

    def _give_keyboard_back(self) -> None:
        """What was hidden lost the keyboard; an open field must not leave its letters to the commands."""
        widget, self._had_keyboard = self._had_keyboard, None
        if widget is not None and widget.is_attached and widget.focusable:
            if isinstance(widget, Input):
                widget.select_on_focus = False  # what was typed goes on where it was
            self.set_focus(widget)

    def refresh_keys(self) -> None:
        """Repaint the key bar: what is possible may have changed."""
        for bar in self.query(KeyBar):
            bar.refresh()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Other keys work in a field."""
        self.refresh_keys()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """The keys of the screen work again."""
        self.refresh_keys()

    def on_screen_suspend(self) -> None:
        """Under a question the keys are another's."""
        self.refresh_keys()

    def on_screen_resume(self) -> None:
        """The keys are the screen's own again."""
        self.was_seen = self.was_seen or self.is_current
        self.refresh_keys()

    def show_top(self, *facts: Part) -> None:
        """The first line: the names of the screens, and as many of `facts` as there is room for beside them."""
        for top in self.query("#top").results(Ends):
            top.show(*tab_line(self.NAME, facts, self.size.width - 2))

    def help_here(self) -> tuple[str, Content] | None:
        """A title and a text about what has the keyboard; None when there is nothing to say."""
        return None

    def jump_targets(self) -> list[Target]:
        """Everything seen that can be gone to: rows of lists, fields, other things that take the keyboard."""
        found: list[Target] = []
        for widget in self.query("*"):
            if isinstance(widget, Rows):
                found += [Target(x, y, go) for x, y, go in widget.places()]
            elif widget.focusable and not isinstance(widget, VerticalScroll):
                seen = self._seen_part(widget)
                if seen:
                    found.append(Target(seen.x, seen.y, widget.focus))
        return found

    def _seen_part(self, widget: Widget) -> Region | None:
        """Where a widget is seen; None when it is hidden or scrolled away."""
        try:
            return self.find_widget(widget).visible_region
        except NoWidget:
            return None

    @property
    def ready(self) -> bool:
        """Whether the screen has what keys act on; keys typed ahead wait until then."""
        return True

    def ready_for(self, event: events.Event) -> bool:
        """Whether the screen has what a key, a paste or a click acts on."""
        return self.ready

    def settle_editor(self) -> bool:
        """Take what was typed into an open field; False when it cannot be taken, which a person has been told.

        Every command that reads or changes something does this first.
        """
        return True

    def seek(self, name: str) -> None:
        """Go to what has this name on the screen, at once or when it is there."""

    def step_back(self) -> bool:
        """Leave the innermost thing that is open; False when there was none."""
        return False

    def say(self, text: str, *, error: bool = False) -> None:
        """A short notice that goes by itself; never read as markup. Before the first visit nobody asked for it."""
        if self.was_seen:
            notify(self, text, error=error)
