"""Random conversations on which a Go template is compared with the chat template, the same for the same seed."""

from __future__ import annotations

import random
from typing import Any

from engine.data.conversation import Conversation
from engine.export.ollama.probe import Abilities
from engine.export.ollama.values import ordered

_WORDS = (
    *("a", "date", "Paris", "is 7", "café", "naïve", "東京", "привет", "🙂", "don't", '"quoted"', "C:\\new", "a<b>&c"),
    *(
        "{{ x }}",
        "{% y %}",
        "def f(a):\n    return a",
        "- one\n- two",
        "3.14",
        "ok?",
        "tab\there",
        "</p>",
        "x = {'a': 1}",
    ),
)
_NAMES = ("get_weather", "add", "search_web", "lookup-id", "f")
_KEYS = ("city", "limit", "options", "query", "unit", "when", "x")
_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_ENDS = ("", "", "", "", "", "", " ", "\n", "\n\n ", "\u3000\xa0")
"""Blanks around a text: mostly none."""
_RESULT = '{"result": 21.5, "ok": true}'


def random_conversation(seed: int, abilities: Abilities) -> tuple[Conversation, bool | None]:
    """A conversation that the template may be asked for, and what a person set for thinking (None = nothing)."""
    source = random.Random(seed)
    tools = [_tool(source, name) for name in source.sample(_NAMES, source.randint(1, 3))]
    calling = abilities.calls and source.random() < 0.6
    turns: list[dict[str, Any]] = []
    if source.random() < 0.5:
        turns.append({"role": "system", "content": _text(source)})
    rounds = source.choice((1, 1, 2, 2, 3, 4, 6))
    for number in range(rounds):
        turns.append({"role": "user", "content": _text(source)})
        while calling and source.random() < 0.5:
            turns += _called(source, tools, abilities)
        if number < rounds - 1:
            turns.append(_answer(source, abilities))
            if abilities.late_system and source.random() < 0.1:
                turns.append({"role": "system", "content": _text(source)})
    shown = tools if abilities.tools and (calling or source.random() < 0.2) else []
    think = source.choice((None, True, False)) if abilities.think_switch else None
    return Conversation(turns, shown, {"enable_thinking": False} if think is False else {}), think


def _answer(source: random.Random, abilities: Abilities) -> dict[str, Any]:
    answer: dict[str, Any] = {"role": "assistant", "content": _text(source)}
    if abilities.thinking and source.random() < 0.5:
        answer["reasoning_content"] = _text(source)
    return answer


def _called(source: random.Random, tools: list[dict[str, Any]], abilities: Abilities) -> list[dict[str, Any]]:
    """An answer that calls tools, and their results."""
    answer = _answer(source, abilities)
    if source.random() < 0.6:
        answer["content"] = ""
    count = source.choice((1, 1, 2, 3)) if abilities.many_calls else 1
    calls, results = [], []
    for _ in range(count):
        tool = source.choice(tools)["function"]
        schema = tool.get("parameters", {"properties": {}})
        named = source.sample(sorted(schema["properties"]), k=len(schema.get("required", ())))
        arguments = ordered({key: _value(source) for key in named})
        identity = "".join(source.choices("abcdefghij0123456789", k=9))
        calls.append({"type": "function", "id": identity, "function": {"name": tool["name"], "arguments": arguments}})
        content = source.choice(("", _RESULT, _RESULT, _text(source), _text(source)))
        results.append({"role": "tool", "content": content, "name": tool["name"], "tool_call_id": identity})
    return [{**answer, "tool_calls": calls}, *results]


def _text(source: random.Random) -> str:
    words = " ".join(source.choices(_WORDS, k=source.randint(1, 8)))
    return source.choice(_ENDS) + words + source.choice(_ENDS)


def _value(source: random.Random, depth: int = 0) -> Any:
    kind = source.randrange(8 if depth < 2 else 5)
    if kind < 2:
        return source.choice(_WORDS)
    if kind == 2:
        return source.randint(-5, 100000)
    if kind == 3:
        return source.choice((True, False, None, 2.5, -0.125))
    if kind == 4:
        return ""
    if kind == 5:
        return [_value(source, depth + 1) for _ in range(source.randint(0, 3))]
    return {key: _value(source, depth + 1) for key in source.sample(_KEYS, k=source.randint(0, 3))}


def _tool(source: random.Random, name: str) -> dict[str, Any]:
    keys = sorted(source.sample(_KEYS, k=source.randint(0, 4)))
    parameters: dict[str, Any] = {"type": "object", "properties": {key: _property(source) for key in keys}}
    if not keys and source.random() < 0.5:
        parameters = {}
    required = [key for key in keys if source.random() < 0.6]
    if required:
        parameters["required"] = required
    function: dict[str, Any] = {"name": name}
    if source.random() < 0.9:
        function["description"] = source.choice(_WORDS) + " " + source.choice(_WORDS)
    return {"type": "function", "function": {**function, **({"parameters": parameters} if parameters else {})}}


def _property(source: random.Random, depth: int = 0) -> dict[str, Any]:
    kind = source.choice(_TYPES if depth < 2 else _TYPES[:4])
    made: dict[str, Any] = {"type": kind}
    if source.random() < 0.8:
        made["description"] = source.choice(_WORDS) + " <" + source.choice(_WORDS) + ">"
    if kind == "string" and source.random() < 0.4:
        made["enum"] = ["celsius", "K", source.choice(_WORDS)]
    if kind == "array":
        made["items"] = {"type": "string"}
    if kind == "object":
        keys = sorted(source.sample(_KEYS, k=source.randint(1, 3)))
        made["properties"] = {key: _property(source, depth + 1) for key in keys}
        if source.random() < 0.5:
            made["required"] = keys[:1]
    return made
