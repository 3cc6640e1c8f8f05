"""A conversation with a run's model as values: turns, answers, tool calls that wait for a result.

`chat.py` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tui.text import safe

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Who answers, and how."""

    base: bool = False
    both: bool = False
    """Tuned and base answer each question, one after the other."""
    system: str | None = None
    """None = the run's own; empty = none."""
    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 0.95
    seed: int | None = None

    @property
    def who(self) -> tuple[bool, ...]:
        """Who answers the next question, in this order; True = the base."""
        return (False, True) if self.both else (self.base,)

    def summary(self) -> str:
        """The settings in short, for the line above the field."""
        system = "  system message" if self.system else ""
        return f"temperature {self.temperature:g}  {self.max_new_tokens:,} tokens{system}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One model's answer. `text` is not sanitised: it goes back to the model as it is."""

    base: bool
    text: str = ""
    note: str = ""
    over: bool = False
    kept: bool = False
    """Whether it belongs to the conversation that the model reads."""
    turn: Mapping[str, Any] = field(default_factory=dict)
    """The answer as a message, with its thought and tool calls apart; empty while it grows."""

    @property
    def who(self) -> str:
        """`base` or `tuned`."""
        return "base" if self.base else "tuned"

    @property
    def message(self) -> Message:
        """As the model reads it in the next question."""
        return dict(self.turn) or {"role": "assistant", "content": self.text}

    @property
    def calls(self) -> tuple[Mapping[str, Any], ...]:
        """The tool calls that it makes: name and arguments of each."""
        return tuple(call["function"] for call in self.turn.get("tool_calls") or ())


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, or the result of a call of `tool`, and the answers to it, one or both.

    A result that others must follow has no answer.
    """

    question: str
    replies: tuple[Reply, ...]
    tool: str = ""

    @property
    def over(self) -> bool:
        """Whether every answer has come."""
        return all(reply.over for reply in self.replies)

    @property
    def message(self) -> Message:
        """As the model reads it."""
        if self.tool:
            return {"role": "tool", "name": self.tool, "content": self.question}
        return {"role": "user", "content": self.question}

    @property
    def calling(self) -> Reply | None:
        """The kept answer that calls tools."""
        return next((reply for reply in self.replies if reply.kept and reply.calls), None)

    def read_by(self, base: bool) -> Reply | None:
        """The answer that a model reads as its own: the one it gave, else the other's; None where none is kept."""
        kept = [reply for reply in self.replies if reply.kept]
        return next((reply for reply in kept if reply.base == base), kept[0] if kept else None)


@dataclass(frozen=True, slots=True)
class Chat:
    """What there is to see. `state`: `off`, `loading`, `ready`, `answering`, `failed`."""

    state: str = "off"
    doing: str = ""
    turns: tuple[Turn, ...] = ()
    settings: AnswerSettings = field(default_factory=AnswerSettings)
    warnings: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    context: int = 0
    has_base: bool = True
    own_system: str = ""
    """The system message that the run was trained with."""
    tools: tuple[Message, ...] = ()
    """What the run's rows let the model call."""

    @property
    def system(self) -> str:
        """The system message of the conversation."""
        return self.own_system if self.settings.system is None else self.settings.system

    @property
    def waits_for(self) -> tuple[str, int]:
        """The tool whose result the next line is, and how many calls wait with it; an empty name and 0 for none."""
        place = len(self.turns) - 1
        while place >= 0 and self.turns[place].tool and not self.turns[place].replies:
            place -= 1
        if place < 0 or not self.turns[place].over:
            return "", 0
        reply = self.turns[place].calling
        given = len(self.turns) - 1 - place
        waiting = () if reply is None else reply.calls[given:]
        return (str(waiting[0]["name"]), len(waiting)) if waiting else ("", 0)

    def asking(self, text: str) -> Chat:
        """The chat with one line more: a question, or the result of the call that waits."""
        tool, waiting = self.waits_for
        replies = tuple(Reply(base) for base in self.settings.who) if waiting < 2 else ()
        return replace(self, turns=(*self.turns, Turn(text, replies, tool)))

    def without_calls(self) -> Chat:
        """The chat without the question whose calls wait for results."""
        place = len(self.turns) - 1
        while place > 0 and self.turns[place].tool:
            place -= 1
        return replace(self, turns=self.turns[: max(place, 0)])

    def messages_before(self, number: int, base: bool) -> list[Message]:
        """Everything that the base or the tuned model reads to answer a turn, its question last."""
        messages: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for place, turn in enumerate(self.turns[:number]):
            followed = bool(self.turns[place + 1].tool)
            reply = (turn.calling if followed else None) or turn.read_by(base)
            if reply is not None:
                messages += [turn.message, reply.message]
            elif turn.tool and not turn.replies:
                messages.append(turn.message)
        return [*messages, self.turns[number].message]


def call_text(call: Mapping[str, Any]) -> str:
    """`get_weather {"city": "Paris"}`, safe to show."""
    return safe(f"{call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}", 2000)
