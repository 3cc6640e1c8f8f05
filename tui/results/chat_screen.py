"""The results screen's talk with a run: when the worker lives, what is typed, who answers. Base of `results.py`."""

from __future__ import annotations

from textual import on
from textual.message import Message
from textual.message_pump import MessagePump

from engine.api.runs import Run
from tui.frame.screen import DeckScreen
from tui.results.chat import Chat, Talking
from tui.results.chat_pane import ChatPane
from tui.results.commands import ResultsState


class ChatChanged(Message):
    """The conversation went on; one that still waits is dropped."""

    def can_replace(self, message: MessagePump | Message) -> bool:
        """Only the last one counts."""
        return isinstance(message, ChatChanged)


class ChatScreen(DeckScreen):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None
        self._talking: Talking | None = None

    def _show(self) -> None:
        """Everything; the screen draws it."""
        raise NotImplementedError

    def _tell(self) -> None:
        """Let the command table know what is possible; the screen does."""
        raise NotImplementedError

    def _show_chat(self) -> None:
        self.query_one(ChatPane).show(self._talking.chat if self._talking else Chat())

    def _talk(self, run: Run) -> Talking:
        if self._talking is None:
            self._talking = Talking(run, lambda: self.post_message(ChatChanged()))
        return self._talking

    def _end_talk(self, wait_s: float = 0.0) -> None:
        """Free the model; what was said stays."""
        if self._talking is not None and self._talking.chat.state != "off":
            self._talking.end(wait_s)
            self._talking = self._talking.again()

    def _typed(self, text: str) -> None:
        if self._run is None:
            return
        if self.deck.of(ResultsState).cannot_ask:
            self.say(self.deck.of(ResultsState).cannot_ask, error=True)
            return
        talking = self._talk(self._run)
        if text.startswith("/"):
            notice = talking.obey(text)
            if notice:
                self.say(notice)
        else:
            talking.ask(text)
        self._show()

    @on(ChatChanged)
    def _on_chat(self) -> None:
        self._show_chat()
        self._tell()

    def do_answerer(self) -> None:
        """Base instead of tuned, and back."""
        if self._run is not None:
            talking = self._talk(self._run)
            if not talking.chat.has_base:
                self.say("the base cannot be shown: it was trained itself, or some of its biases were", error=True)
                return
            talking.obey("/tuned" if talking.chat.manner.base else "/base")
            self._show()
