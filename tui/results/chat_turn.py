"""One question of the chat with its answers: below each other, or beside each other where there is room."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content

from engine.text import sanitize
from tui.results.turns import Reply, Turn
from tui.widgets.lines import Line

MOST_CHARS = 100_000


class ReplyView(Vertical):
    """Who answers, the answer, and a note below."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply

    def compose(self) -> ComposeResult:
        """A row of a name and a text, and a note."""
        with Horizontal(classes="said"):
            yield Line(Content.styled(self._reply.who, "bold $accent"), classes="who")
            yield Line(_answer(self._reply), classes="text answer")
        yield Line(Content.styled(self._reply.note, "dim"), classes="note")

    def on_mount(self) -> None:
        """Draw the answer, which may have grown meanwhile."""
        self._draw()

    def show(self, reply: Reply) -> None:
        """Show more of the answer."""
        if reply is not self._reply:
            self._reply = reply
            if self.is_mounted:
                self._draw()

    def _draw(self) -> None:
        self.query_one(".answer", Line).show(_answer(self._reply), wraps=True)
        self.query_one(".note", Line).show(Content.styled(self._reply.note, "dim"), wraps=True)


class TurnView(Vertical):
    """One question with its answers."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self._question, self._tool = turn.question, turn.tool
        self._views = [ReplyView(reply) for reply in turn.replies]

    def compose(self) -> ComposeResult:
        """The question above the answers."""
        with Horizontal(classes="said"):
            yield Line(Content.styled("result" if self._tool else "you", "dim"), classes="who")
            yield Line(Content(sanitize(self._question, max_chars=MOST_CHARS)), classes="text")
        with Container(classes="replies"):
            yield from self._views

    def show(self, turn: Turn) -> None:
        """Show more of the answers."""
        for view, reply in zip(self._views, turn.replies, strict=True):
            view.show(reply)


def _answer(reply: Reply) -> Content:
    text = sanitize(reply.text, max_chars=MOST_CHARS).strip()
    return Content(text) if text else Content.styled("(nothing)" if reply.over else "…", "dim")
