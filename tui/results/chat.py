"""A conversation with a run's model: a thread around `engine.api.results.Talk`, and what there is to see of it.

The worker lives from `start` to `end`. The thread makes a new immutable `Chat` whenever something changed and reports
it at most eight times a second. `chat_pane.py` draws it.
"""

from __future__ import annotations

import queue
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.api import results
from engine.api.runs import Event, Run
from engine.errors import EngineError
from tui.background import in_thread
from tui.reading.snapshot import error_lines
from tui.results.turns import AnswerSettings, Chat, Reply, call_text
from tui.text import safe

REPORT_EVERY_S = 0.125
HELP = "/base /tuned /both  /clear  /drop  /system TEXT  /temperature N  /tokens N  /seed N"


class Conversation:
    """A thread that loads the model and answers one question after the other. It calls `changed` from that thread."""

    def __init__(self, run: Run, changed: Callable[[], object], chat: Chat | None = None) -> None:
        self.run = run
        self.chat = chat or Chat()
        self._changed = changed
        self._lock = threading.Lock()
        self._questions: queue.Queue[int | None] = queue.Queue()
        self._talk: results.Talk | None = None
        self._thread: threading.Thread | None = None
        self._ending = False
        self._silenced = False
        self._reported_at = 0.0

    def unloaded(self) -> Conversation:
        """The same conversation without a worker; this one must have been ended."""
        return Conversation(self.run, self._changed, replace(self.chat, state="off", doing=""))

    def start(self) -> None:
        """Load the model unless it is loaded."""
        if self.chat.state in ("off", "failed"):
            self._update(state="loading", doing="starting the worker", error=(), warnings=())
            self._thread = in_thread(self._work, f"chat {self.run.id}")

    def ask(self, question: str) -> None:
        """Ask; answers come one after the other."""
        with self._lock:
            self.chat = self.chat.asking(question)
            turns = self.chat.turns
        self.start()
        if turns[-1].replies:
            self._questions.put(len(turns) - 1)

    def end_answer(self) -> None:
        """End the answers to the question under way; what there is of them stays."""
        if self._talk is not None and self.chat.state == "answering":
            self._silenced = True
            self._talk.silence()

    def end(self, wait_s: float = 0.0) -> None:
        """End the worker, for good; waits up to `wait_s` until it has gone and its folder with it."""
        self._ending = True
        self._questions.put(None)
        if self._talk is not None:
            self._talk.stop()
        self._close_turns()
        if self._thread is not None:
            self._thread.join(wait_s)

    def run_command(self, text: str) -> str:
        """Carry out a line that begins with a slash; why it could not be, or an empty text."""
        word, _, rest = text.partition(" ")
        if word == "/clear":
            if any(not turn.over for turn in self.chat.turns):
                return "an answer is still under way: x ends it"
            self._update(turns=())
            return ""
        if word == "/drop":
            if not self.chat.waits_for[0]:
                return "no call waits for a result"
            self._update(turns=self.chat.without_calls().turns)
            return ""
        settings = changed_settings(self.chat.settings, word, rest.strip())
        if settings is None:
            return HELP
        self._update(settings=settings)
        return ""

    # The thread

    def _work(self) -> None:
        try:
            with results.Talk(self.run) as talk:
                self._talk = talk
                if not self._ending:
                    self._load(talk)
                while not self._ending and (number := self._questions.get()) is not None:
                    self._answer(talk, number)
        except (EngineError, OSError) as error:
            if not self._ending:
                lines = error_lines(error) if isinstance(error, EngineError) else (safe(error),)
                self._close_turns()
                self._set(state="failed", doing="", error=lines)
        finally:
            self._talk = None

    def _load(self, talk: results.Talk) -> None:
        for event in talk.wait_ready():
            if event["type"] == "phase":
                self._set(doing=safe(f"{event.get('name', '')} {event.get('detail', '')}", 80))
            elif event["type"] == "warning":
                self._set(warnings=(*self.chat.warnings, safe(event.get("message", ""), 400)))
            elif event["type"] == "ready":
                self._set(state="ready", doing="", context=int(event["context"]), **_brought(event))

    def _answer(self, talk: results.Talk, number: int) -> None:
        self._silenced = False
        self._set(state="answering")
        for place in range(len(self.chat.turns[number].replies)):
            if self._silenced:
                self._put(number, place, replace(self._reply(number, place), note="ended before it began", over=True))
            elif not self._ending:
                self._reply_to(talk, number, place)
        self._set(state="ready")

    def _reply_to(self, talk: results.Talk, number: int, place: int) -> None:
        chat, reply = self.chat, self._reply(number, place)
        options = {name: getattr(chat.settings, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")}
        messages = chat.messages_before(number, reply.base)
        for event in talk.ask(messages, base=reply.base, tools=chat.tools, **options):
            reply = _reply_after(reply, event)
            self._put(number, place, reply)

    def _reply(self, number: int, place: int) -> Reply:
        return self.chat.turns[number].replies[place]

    def _close_turns(self) -> None:
        """Mark questions that still wait: they are never answered."""
        for number, turn in enumerate(self.chat.turns):
            for place, reply in enumerate(turn.replies):
                if not reply.over:
                    self._put(number, place, replace(reply, note="the worker ended", over=True))

    def _put(self, number: int, place: int, reply: Reply) -> None:
        with self._lock:
            turns = self.chat.turns
            replies = turns[number].replies
            turn = replace(turns[number], replies=(*replies[:place], reply, *replies[place + 1 :]))
            self.chat = replace(self.chat, turns=(*turns[:number], turn, *turns[number + 1 :]))
        if reply.over or time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self._report()

    def _set(self, **changes: Any) -> None:
        self._update(**changes)
        self._report()

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self.chat = replace(self.chat, **changes)

    def _report(self) -> None:
        self._reported_at = time.monotonic()
        if not self._ending:
            self._changed()


def changed_settings(settings: AnswerSettings, word: str, rest: str) -> AnswerSettings | None:
    """The settings after a command; None for one that is not understood."""
    if word in ("/base", "/tuned", "/both"):
        return replace(settings, base=word == "/base", both=word == "/both")
    if word == "/system":
        return replace(settings, system=rest)
    try:
        if word == "/temperature" and 0 <= float(rest) <= 5:
            return replace(settings, temperature=float(rest))
        if word == "/tokens" and 1 <= int(rest) <= 32_768:
            return replace(settings, max_new_tokens=int(rest))
        if word == "/seed" and 0 <= int(rest) < 2**31:
            return replace(settings, seed=int(rest))
    except ValueError:
        pass
    return None


def _reply_after(reply: Reply, event: Event) -> Reply:
    """The answer after an event of it."""
    if event["type"] == "answer_part":
        return replace(reply, text=reply.text + str(event["text"]))
    if event["type"] == "refused":
        return replace(reply, note=safe(event["message"], 400), over=True)
    if event["type"] == "answer":
        turn = event.get("turn") or {}
        answered = replace(reply, text=str(event["text"]), over=True, kept=True, turn=turn)
        return replace(answered, note=_note(answered, event))
    return reply


def _brought(ready: Event) -> dict[str, Any]:
    """What the run brings to a conversation."""
    tools = tuple(ready.get("tools") or ())
    return {"has_base": bool(ready["base"]), "own_system": str(ready.get("system") or ""), "tools": tools}


def _note(reply: Reply, event: Event) -> str:
    """What stands below an answer: its calls, why one cannot be read, and how it ended."""
    lines = [f"calls {call_text(call)}" for call in reply.calls]
    lines += [f"a call cannot be read: {safe(event['problem'], 200)}"] if event.get("problem") else []
    return "\n".join([*lines, _ending(event)])


def _ending(event: Event) -> str:
    seconds = float(event["seconds"])
    rate = f", {event['tokens'] / seconds:.1f} a second" if seconds else ""
    why = "" if event["stopped"] else " (ended by you)" if event["silenced"] else " (at the limit of new tokens)"
    return f"{event['tokens']:,} token{'s' * (event['tokens'] != 1)}{rate}{why}"


def chat_text(chat: Chat) -> str:
    """The conversation as plain text, for copying; not sanitised."""
    lines = []
    for turn in chat.turns:
        lines.append(f"{f'result of {turn.tool}' if turn.tool else 'you'}: {turn.question}")
        lines += [f"{reply.who}: {reply.text}" for reply in turn.replies]
        lines.append("")
    return "".join(f"{text}\n" for text in lines)


def chat_command(run_id: str, settings: AnswerSettings) -> str:
    """The shell command for the same conversation."""
    words = ["engine", "chat", run_id]
    for option, chosen, default in (
        ("--system", settings.system, None),
        ("--max-new-tokens", settings.max_new_tokens, 512),
        ("--temperature", settings.temperature, 0.0),
        ("--seed", settings.seed, None),
    ):
        words += [option, str(chosen)] if chosen != default else []
    return safe(shlex.join(words), 500)
