"""A conversation as a chat template takes it: turns, tools and arguments, made from an example.

`chat.py` renders it. The turns are plain objects because templates read them by key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.data.examples import Example, Message, ToolCall

Turns = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template renders. `tools` are OpenAI's function schemas; `arguments` are the template's own names."""

    turns: Turns
    tools: Sequence[Mapping[str, Any]] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def upto(self, count: int) -> Conversation:
        """The same with only its first `count` turns."""
        return Conversation(self.turns[:count], self.tools, self.arguments)

    @property
    def characters(self) -> int:
        """Of everything that a template may write."""
        if not self.tools and all(turn.keys() == {"role", "content"} for turn in self.turns):
            return sum(len(turn["content"]) for turn in self.turns)
        return len(json.dumps([list(self.turns), list(self.tools)], ensure_ascii=False))


def conversation_of(example: Example, messages: Sequence[Message] | None = None) -> Conversation:
    """The example for a template; `messages` in place of its own, e.g. only those before an answer."""
    turns = [turn_of(message) for message in (example.messages if messages is None else messages)]
    arguments = json.loads(example.template_arguments) if example.template_arguments else {}
    return Conversation(turns, json.loads(example.tools) if example.tools else [], arguments)


def with_arguments(conversation: Conversation, arguments: Mapping[str, Any]) -> Conversation:
    """With the profile's arguments of the template; the conversation's own go first."""
    if not arguments:
        return conversation
    return Conversation(conversation.turns, conversation.tools, {**arguments, **conversation.arguments})


def turn_of(message: Message) -> dict[str, Any]:
    """A message in the form of transformers' templates: call arguments as an object, keys only where they hold text."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.calls:
        turn["tool_calls"] = [_call_of(call) for call in message.calls]
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn


def _call_of(call: ToolCall) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "function"}
    if call.id:
        told["id"] = call.id
    return told | {"function": {"name": call.name, "arguments": json.loads(call.arguments)}}
