"""Examples as lines of JSON, as a run keeps those that it held out, and back again."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from engine.data.examples import ROLES, Example, Message, ToolCall


def example_to_json(example: Example) -> dict[str, Any]:
    """Plain values; what is empty is left out."""
    row: dict[str, Any] = {"kind": example.kind, "messages": [_message_to_json(one) for one in example.messages]}
    more = {"tools": example.tools, "template_arguments": example.template_arguments}
    return row | {key: text for key, text in more.items() if text}


def _message_to_json(message: Message) -> dict[str, Any]:
    always = ("role", "content", "train")
    return {key: value for key, value in asdict(message).items() if key in always or value}


def example_from_json(row: Any, number: int) -> Example:
    """What `example_to_json` made, as row `number`. Raises ValueError, KeyError or TypeError for a damaged one."""
    messages = tuple(_message(item) for item in row["messages"])
    example = Example(messages, number, "text" if row.get("kind") == "text" else "chat")
    arguments = _text(row.get("template_arguments", ""))
    return replace(example, tools=_text(row.get("tools", "")), template_arguments=arguments)


def _message(item: Any) -> Message:
    role = item["role"]
    if role not in ROLES:
        raise ValueError(f"unknown role: {str(role)[:40]!r}")
    calls = tuple(
        ToolCall(_text(call["name"]), _text(call["arguments"]), _text(call.get("id", "")))
        for call in item.get("calls", ())
    )
    return Message(
        role,
        _text(item["content"]),
        bool(item.get("train", role == "assistant")),
        _text(item.get("reasoning", "")),
        calls,
        _text(item.get("name", "")),
        _text(item.get("call_id", "")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"content that is not text: {str(value)[:40]!r}")
    # Half a surrogate pair has no UTF-8 form: Arrow, the tokenizer and the report would all refuse it.
    return value.encode("utf-8", "replace").decode("utf-8")
