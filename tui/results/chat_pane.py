"""The conversation of the results screen: turns above, a field below. Shows a `Chat`; asking is the screen's."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input

from engine.text import sanitize
from tui.results.chat import HELP, Chat, Turn
from tui.text import Part, line
from tui.widgets.lines import Ends, Line

MOST_CHARS = 100_000


class TurnView(Vertical):
    """One question with its answer."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self._turn = turn

    def compose(self) -> ComposeResult:
        """Two rows of a name and a text, and a note below."""
        with Horizontal(classes="said"):
            yield Line(Content.styled("you", "dim"), classes="who")
            yield Line(Content(sanitize(self._turn.question, max_chars=MOST_CHARS)), classes="text")
        with Horizontal(classes="said"):
            yield Line(Content.styled("base" if self._turn.base else "tuned", "bold $accent"), classes="who")
            yield Line(_answer(self._turn), classes="text answer")
        yield Line(Content.styled(self._turn.note, "dim"), classes="note")

    def on_mount(self) -> None:
        """The answer may have grown meanwhile."""
        self._draw()

    def show(self, turn: Turn) -> None:
        """Show more of the answer."""
        if turn is not self._turn:
            self._turn = turn
            if self.is_mounted:
                self._draw()

    def _draw(self) -> None:
        self.query_one(".answer", Line).show(_answer(self._turn), wraps=True)
        self.query_one(".note", Line).show(Content.styled(self._turn.note, "dim"), wraps=True)


def _answer(turn: Turn) -> Content:
    text = sanitize(turn.text, max_chars=MOST_CHARS).strip()
    return Content(text) if text else Content.styled("(nothing)" if turn.over and not turn.note else "…", "dim")


class ChatPane(Vertical):
    """See the module. `asked` is called with each line that was typed."""

    def __init__(self, asked: Callable[[str], None], *, id: str) -> None:
        super().__init__(id=id)
        self._asked = asked
        self._views: list[TurnView] = []

    def compose(self) -> ComposeResult:
        """Turns, state, field."""
        with VerticalScroll(id="turns", can_focus=False):
            yield Line(id="chat-note")
        yield Ends(id="chat-state")
        field = Input(placeholder="ask something", compact=True, id="question")
        field.cursor_blink = False
        yield field

    @property
    def field(self) -> Input:
        """Where questions are typed."""
        return self.query_one("#question", Input)

    @on(Input.Submitted, "#question")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if text:
            event.input.value = ""
            self._asked(text)

    def on_key(self, event: object) -> None:
        """Scroll the conversation while the field has the keyboard."""
        turns = self.query_one("#turns", VerticalScroll)
        moves = {
            "pageup": turns.scroll_page_up,
            "pagedown": turns.scroll_page_down,
            "up": turns.scroll_up,
            "down": turns.scroll_down,
        }
        move = moves.get(getattr(event, "key", ""))
        if move is not None:
            move(animate=False)

    def show(self, chat: Chat) -> None:
        """Bring the pane up to the conversation."""
        turns = self.query_one("#turns", VerticalScroll)
        follows = turns.is_vertical_scroll_end
        if len(self._views) > len(chat.turns):  # it was forgotten, or another run is shown
            for view in self._views:
                view.remove()
            self._views = []
        for view, turn in zip(self._views, chat.turns, strict=False):
            view.show(turn)
        new = [TurnView(turn) for turn in chat.turns[len(self._views) :]]
        if new:
            turns.mount_all(new)
            self._views += new
        note = self.query_one("#chat-note", Line)
        note.show(_note(chat), wraps=True)
        note.display = bool(note.shown.plain)
        self.query_one("#chat-state", Ends).show(*_state(chat))
        if follows or new:
            self.call_after_refresh(turns.scroll_end, animate=False)


def _note(chat: Chat) -> Content:
    parts: list[Part] = [(f"warning: {text}\n", "$warning") for text in chat.warnings]
    if chat.error:
        parts += [(f"{chat.error[0]}\n", "bold $error"), *(f"{text}\n" for text in chat.error[1:])]
    elif not chat.turns:
        parts.append(("each line is a question; the model reads what was said before\n", "dim"))
        parts.append((HELP, "dim"))
    return line(*parts)


def _state(chat: Chat) -> tuple[list[Part], list[Part]]:
    """Who answers and how; at the right, where it is never cut, what goes on."""
    words = {
        "off": "not loaded: a question loads it",
        "loading": f"loading: {chat.doing}",
        "ready": "ready",
        "answering": "answering: esc ends it",
        "failed": "the worker failed: ask again",
    }
    style = {"failed": "$error", "answering": "$accent", "loading": "$accent"}.get(chat.state, "dim")
    context = f"  context {chat.context:,}" if chat.context else ""
    who = "base" if chat.manner.base else "tuned"
    left: list[Part] = [(who, "bold $accent"), " answers", (f"  {chat.manner.words()}{context}", "dim")]
    return left, [(words[chat.state], style)]
