"""The conversation of the results screen: turns above, a field for questions below, and the worker that answers."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widgets import Input

from engine.api.runs import Run
from engine.text import sanitize
from tui.results.chat import HELP, Conversation, chat_command, chat_text
from tui.results.chat_turn import TurnView
from tui.results.history import History
from tui.results.turns import Chat
from tui.text import Part, line, safe
from tui.widgets.lines import Ends, Line
from tui.widgets.panes import notify

SIDE_BY_SIDE_COLUMNS = 100
"""From this width on, answers of base and tuned stand beside each other."""
NO_BASE = "the base cannot be shown: it was trained itself, or some of its biases were"
LEAVE_S = 3.0
"""How long the deck waits for the worker when it closes."""


class ChatPane(Vertical):
    """One run's conversation. The model is loaded by `open` or by a question, and let go by `close`."""

    HERE: ClassVar = (
        "Talking with a run",
        """\
Each line is a question; the model reads what was said before. It may call
the tools that the run's rows bring: the next line is then a call's result.
It is loaded when this view opens and let go when you leave the screen,
start an evaluation or an export, or close the deck.

^t, /base, /tuned  who answers: the base lacks what was learned
^b, F2, /both      both answer each question, and each reads its own answers;
                   in tmux press ^b twice
up, down           lines that you entered before; what you had typed stays
pgup, pgdn         scroll the conversation
/clear             forget the conversation
/drop              forget a question whose tool calls wait for results
/system TEXT       in place of the run's system message; without TEXT none
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
        self._history = History()

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
        settings = self._begin(self._run).chat.settings
        self._choose("/tuned" if settings.base or settings.both else "/base")

    def switch_both(self) -> None:
        """Let both answer each question, or the tuned model alone again."""
        if self._run is not None:
            self._choose("/tuned" if self._begin(self._run).chat.settings.both else "/both")

    def _choose(self, command: str) -> None:
        """Change who answers, where that can be."""
        conversation = self._conversation
        if conversation is None:
            return
        if command != "/tuned" and not conversation.chat.has_base:
            notify(self, NO_BASE, error=True)
            return
        conversation.run_command(command)
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
            self._history.enter(text)
            self._take(text)

    def _take(self, text: str) -> None:
        """Ask a question, or carry out a line that begins with a slash."""
        if self._run is None:
            return
        if self.refusal:
            notify(self, self.refusal, error=True)
            return
        conversation = self._begin(self._run)
        if text in ("/base", "/tuned", "/both"):
            self._choose(text)
        elif text.startswith("/"):
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

    def on_key(self, event: events.Key) -> None:
        """Go through what was entered before, or scroll the conversation, while the field has the keyboard."""
        turns, key = self.query_one("#turns", VerticalScroll), event.key
        scrolls = {"pageup": turns.scroll_page_up, "pagedown": turns.scroll_page_down}
        looks = {"up": self._history.earlier, "down": self._history.later}
        if key in scrolls:
            scrolls[key](animate=False)
        elif key in looks:
            field = self.query_one("#question", Input)
            field.value = looks[key](field.value)
            field.cursor_position = len(field.value)

    def on_resize(self, event: events.Resize) -> None:
        """Put answers beside or below each other."""
        self.set_class(self.app.size.width >= SIDE_BY_SIDE_COLUMNS, "-side")

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
        tool = safe(chat.waits_for[0], 40)
        self.query_one("#question", Input).placeholder = f"the result of {tool}" if tool else "ask something"
        if at_end or new:
            self.call_after_refresh(turns.scroll_end, animate=False)


def _note(chat: Chat) -> Content:
    parts: list[Part] = [(f"warning: {text}\n", "$warning") for text in chat.warnings]
    if chat.error:
        parts += [(f"{chat.error[0]}\n", "bold $error"), *(f"{text}\n" for text in chat.error[1:])]
    elif not chat.turns:
        parts.append(("each line is a question; the model reads what was said before\n", "dim"))
        parts.append((HELP, "dim"))
        parts += [(f"\nsystem: {safe(chat.system, 300)}", "dim")] if chat.system else []
        names = ", ".join(str(tool["function"]["name"]) for tool in chat.tools)
        parts += [(f"\ntools: {safe(names, 300)}", "dim")] if names else []
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
    who = "tuned and base" if chat.settings.both else "base" if chat.settings.base else "tuned"
    word = " answer" if chat.settings.both else " answers"
    left: list[Part] = [(who, "bold $accent"), word, (f"  {chat.settings.summary()}{context}", "dim")]
    return left, [(words[chat.state], style)]
