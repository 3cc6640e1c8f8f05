"""A conversation as Ollama hands it to a template, and what that loses of it.

After Ollama's `api/types.go` and `template/template.go`: neighbors of one role become one message, call arguments
and properties are maps in alphabetical order, numbers are floats, and a tool keeps the keys that Ollama knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.data.conversation import Conversation
from engine.export.ollama.go_run import Struct, Types, number_text

TOOL = ("type", "function")
FUNCTION = ("name", "description", "parameters")
PARAMETERS = ("type", "properties", "required")
PROPERTY = ("type", "description", "enum", "items", "properties", "required", "anyOf")
"""The keys of a tool that templates of ours write, in the order in which they write them."""


def values_of(conversation: Conversation, think: bool | None = None) -> dict[str, Any]:
    """What a template is executed on. `think`: what a person set, None for nothing."""
    turns = conversation.turns
    return {
        "System": b"\n\n".join(_bytes(turn.get("content") or "") for turn in turns if turn["role"] == "system"),
        "Messages": [_message(turn) for turn in collated(turns)],
        "Tools": [_tool(tool) for tool in conversation.tools] if conversation.tools else None,
        "Response": b"",
        "Think": bool(think),
        "ThinkLevel": b"",
        "IsThinkSet": think is not None,
    }


def collated(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Neighbors of one role as one turn: the texts of all, the thoughts and calls of the first."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        if found and found[-1]["role"] == turn["role"] != "tool":
            found[-1]["content"] = f"{found[-1].get('content') or ''}\n\n{turn.get('content') or ''}"
        else:
            found.append(dict(turn))
    return found


def _message(turn: Mapping[str, Any]) -> Struct:
    return Struct(
        {
            "Role": _bytes(turn["role"]),
            "Content": _bytes(turn.get("content") or ""),
            "Thinking": _bytes(turn.get("reasoning_content") or ""),
            "Images": None,
            "ToolCalls": [_call(number, call) for number, call in enumerate(turn.get("tool_calls") or [])],
            "ToolName": _bytes(turn.get("name") or ""),
            "ToolCallID": _bytes(turn.get("tool_call_id") or ""),
        }
    )


def _call(number: int, call: Mapping[str, Any]) -> Struct:
    function = call["function"]
    named = Struct(
        {"Index": number, "Name": _bytes(function["name"]), "Arguments": plain(function.get("arguments") or {})}
    )
    return Struct({"ID": _bytes(call.get("id") or ""), "Function": named})


def _tool(tool: Mapping[str, Any]) -> Struct:
    function = tool["function"]
    given = function.get("parameters") or {}
    parameters = Struct(
        {
            "Type": _bytes(given.get("type") or ""),
            "Required": [_bytes(name) for name in given.get("required") or []],
            "Properties": {name: _property(each) for name, each in (given.get("properties") or {}).items()},
        }
    )
    named = Struct(
        {
            "Name": _bytes(function["name"]),
            "Description": _bytes(function.get("description") or ""),
            "Parameters": parameters,
        }
    )
    return Struct({"Type": _bytes(tool.get("type") or ""), "Function": named})


def _property(given: Mapping[str, Any]) -> Struct:
    kinds = given.get("type") or []
    inner = given.get("properties")
    return Struct(
        {
            "AnyOf": [_property(each) for each in given.get("anyOf") or []],
            "Type": Types(_bytes(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)),
            "Items": plain(given.get("items")),
            "Description": _bytes(given.get("description") or ""),
            "Enum": [plain(each) for each in given.get("enum") or []],
            "Properties": None
            if inner is None
            else Struct({"ToMap": {key: _property(one) for key, one in inner.items()}}),
            "Required": [_bytes(name) for name in given.get("required") or []],
        }
    )


def plain(value: Any) -> Any:
    """A JSON value as Go holds it."""
    if isinstance(value, str):
        return _bytes(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def _bytes(text: Any) -> bytes:
    return str(text).encode("utf-8", "replace")


def kept(conversation: Conversation) -> Conversation:
    """The conversation with what Ollama loses of tools and calls left out, its order of keys, and neighbors joined.

    Arguments of the template that a row sets are none that Ollama has. Raises ValueError, TypeError, AttributeError,
    KeyError or ArithmeticError for what Ollama refuses, or hands on in another spelling than JSON in Python has.
    """
    turns = [_kept_turn(turn) for turn in collated(conversation.turns)]
    return Conversation(turns, [_kept_tool(tool) for tool in conversation.tools])


def _kept_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(turn)
    if made.get("tool_calls"):
        made["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": ordered(call["function"].get("arguments") or {})}}
            for call in made["tool_calls"]
        ]
    return made


def ordered(value: Any) -> Any:
    """JSON as a Go map gives it back: keys in order, numbers as floats have them, whole ones without a point."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-8", "replace"))}
    if isinstance(value, list):
        return [ordered(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(float(value))
    return value


def _number(value: float) -> Any:
    text = number_text(value)
    made = json.loads(text)
    if json.dumps(made) != text:
        raise ValueError(f"Go writes {text} where Python writes {made}")
    return made


def _kept_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(tool.get("function") or {})
    given = dict(function.get("parameters") or {})
    properties = given.get("properties") or {}
    given["properties"] = {name: _kept_property(each) for name, each in ordered_items(properties)}
    # What has neither comes as no parameters at all.
    known = given.get("type") or properties
    function["parameters"] = _chosen(given, PARAMETERS, always=("type", "properties")) if known else None
    return _chosen({**tool, "function": _chosen(function, FUNCTION, always=("name",))}, TOOL, always=TOOL)


def _kept_property(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {}
    made = dict(given)
    if made.get("properties"):
        made["properties"] = {name: _kept_property(each) for name, each in ordered_items(made["properties"])}
    if made.get("anyOf"):
        made["anyOf"] = [_kept_property(each) for each in made["anyOf"]]
    for key in ("items", "enum"):
        if key in made:
            made[key] = ordered(made[key])
    return _chosen(made, PROPERTY)


def ordered_items(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Items in the order in which Go ranges over a map."""
    return sorted(given.items(), key=lambda item: item[0].encode("utf-8", "replace"))


def _chosen(given: Mapping[str, Any], keys: Sequence[str], always: Sequence[str] = ()) -> dict[str, Any]:
    return {key: given.get(key, "") for key in keys if given.get(key) or key in always}
