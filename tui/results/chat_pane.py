"""The conversation of the results screen: turns above, a field for questions below, and the worker that answers."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widgets import Input

from engine.api.runs import Run
from engine.text import sanitize
from tui.results.chat import HELP, Chat, Conversation, Turn, chat_command, chat_text
from tui.text import Part, line
from tui.widgets.lines import Ends, Line
from tui.widgets.panes import notify

MOST_CHARS = 100_000
LEAVE_S = 3.0
"""How long the deck waits for the worker when it closes."""


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
        """Draw the answer, which may have grown meanwhile."""
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
    """One run's conversation. The model is loaded by `open` or by a question, and let go by `close`."""

    HERE: ClassVar = (
        "Talking with a run",
        """\
Each line is a question; the model reads what was said before.
It is loaded when this view opens and let go when you leave the screen,
start an evaluation or an export, or close the deck.

^t, /base, /tuned  who answers: the base lacks what was learned
/clear             forget the conversation
/system TEXT       a system message; without TEXT none
/temperature N     0 = always the likeliest token, up to 5
/tokens N          the longest answer
/seed N            of sampled answers
esc                end the answer under way; what was said stays
""",
    )

    class Changed(Message):
        """The conversation went on; an older one that still waits is dropped."""

        def can_replace(self, message: MessagePump | Message) -> bool:
            """Only the last one counts."""
            return isinstance(message, ChatPane.Changed)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.refusal = ""
        """Why questions cannot be answered now; empty when they can."""
        self._run: Run | None = None
        self._conversation: Conversation | None = None
        self._views: list[TurnView] = []

    def compose(self) -> ComposeResult:
        """Turns, state, field."""
        with VerticalScroll(id="turns", can_focus=False):
            yield Line(id="chat-note")
        yield Ends(id="chat-state")
        field = Input(placeholder="ask something", compact=True, id="question")
        field.cursor_blink = False
        yield field

    def on_unmount(self) -> None:
        """End the worker with the deck."""
        self.close(LEAVE_S)

    # The conversation

    @property
    def chat(self) -> Chat:
        """The conversation as it is now."""
        return self._conversation.chat if self._conversation else Chat()

    @property
    def answering(self) -> bool:
        """Whether an answer is under way."""
        return self.chat.state == "answering"

    def reset(self, run: Run | None) -> None:
        """Prepare for another run, which has a conversation of its own."""
        self.close()
        self._run, self._conversation = run, None

    def open(self) -> None:
        """Load the model."""
        if self._run is not None:
            self._begin(self._run).start()
            self.post_message(self.Changed())

    def close(self, wait_s: float = 0.0) -> None:
        """Free the model; what was said stays. Waits up to `wait_s` for the worker's end."""
        if self._conversation is not None and self._conversation.chat.state != "off":
            self._conversation.end(wait_s)
            self._conversation = self._conversation.unloaded()

    def end_answer(self) -> None:
        """End the answer under way."""
        if self._conversation is not None:
            self._conversation.end_answer()

    def switch_answerer(self) -> None:
        """Let the base answer instead of the tuned model, or the tuned model again."""
        if self._run is None:
            return
        conversation = self._begin(self._run)
        if not conversation.chat.has_base:
            notify(self, "the base cannot be shown: it was trained itself, or some of its biases were", error=True)
            return
        conversation.run_command("/tuned" if conversation.chat.settings.base else "/base")
        self.post_message(self.Changed())

    def _begin(self, run: Run) -> Conversation:
        if self._conversation is None:
            self._conversation = Conversation(run, lambda: self.post_message(self.Changed()))
        return self._conversation

    @on(Input.Submitted, "#question")
    def _on_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if text:
            event.input.value = ""
            self._take(text)

    def _take(self, text: str) -> None:
        """Ask a question, or carry out a line that begins with a slash."""
        if self._run is None:
            return
        if self.refusal:
            notify(self, self.refusal, error=True)
            return
        conversation = self._begin(self._run)
        if text.startswith("/"):
            problem = conversation.run_command(text)
            if problem:
                notify(self, problem)
        else:
            conversation.ask(text)
        self.post_message(self.Changed())

    # What it is as text

    def command(self, run: Run) -> str:
        """The shell command for the same conversation."""
        return chat_command(run.id, self.chat.settings)

    def text(self) -> str | None:
        """The conversation for copying; None before anything was asked for."""
        return sanitize(chat_text(self.chat), max_chars=1_000_000) if self._conversation else None

    # Showing

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

    @on(Changed)
    def show(self) -> None:
        """Draw the conversation as it is now."""
        chat = self.chat
        turns = self.query_one("#turns", VerticalScroll)
        at_end = turns.is_vertical_scroll_end
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
        if at_end or new:
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
    who = "base" if chat.settings.base else "tuned"
    left: list[Part] = [(who, "bold $accent"), " answers", (f"  {chat.settings.summary()}{context}", "dim")]
    return left, [(words[chat.state], style)]
