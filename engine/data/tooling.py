"""Tools that a row offers and calls that its answers make, from every way of writing them to one.

A tool is OpenAI's function schema; a call has a name and arguments that are an object. Texts are read as JSON or as
Python prints it. Raises RowProblem for what cannot be read: a call is never left as text in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from engine.data.examples import RowProblem, ToolCall
from engine.data.structured import EMPTY_WORDS, holds, is_absent, parsed, written

_ARGUMENTS = ("arguments", "parameters", "args", "input")
_CALL_KEYS = frozenset(("name", "type", "id", "call_id", "tool_call_id", "index", "function", *_ARGUMENTS))
_VALUES = ("default", "const", "enum", "examples")
"""Keys of a schema below which null is a value."""
_NO_TOOLS, _NO_CALL = "tools cannot be read", "a call cannot be read"


@lru_cache(maxsize=64)
def _tools_of_text(text: str) -> str:
    return _written(_structure(text, "the tools", _NO_TOOLS))


def tools_of(value: Any) -> str:
    """JSON text of the list of function schemas that a `tools` or `functions` column holds; '' for none."""
    if _is_nothing(value):
        return ""
    # Rows of a set mostly offer the same tools: the text is read once.
    return _tools_of_text(value) if isinstance(value, str) else _written(value)


def _is_nothing(value: Any) -> bool:
    """Whether nothing stands there; a row without tools may say so as JSON or Python text."""
    return not holds(value) or (isinstance(value, str) and value.strip() in EMPTY_WORDS)


def _written(value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    found = [_tool(item) for item in items if holds(item)]
    return _text(found, "the tools", _NO_TOOLS) if found else ""


def _tool(item: Any) -> dict[str, Any]:
    item = _structure(item, "a tool", _NO_TOOLS)
    if not isinstance(item, dict):
        raise RowProblem(_NO_TOOLS, "a tool must be an object with a name")
    inner = item.get("function")
    function = inner if isinstance(inner, Mapping) else item
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RowProblem(_NO_TOOLS, "a tool has no name")
    kind = item.get("type")
    if isinstance(inner, Mapping) and kind not in (None, "function"):
        raise RowProblem(_NO_TOOLS, f"a tool of the type {str(kind)[:40]!r}: only functions are known")
    given = {key: value for key, value in function.items() if not (function is item and key == "type")}
    return {"type": "function", "function": _schema(given)}


def _schema(value: Any) -> Any:
    """Without keys that are null: in a table one tool has the keys of all others."""
    if isinstance(value, dict):
        return {
            str(key): item if key in _VALUES else _schema(item)
            for key, item in value.items()
            if key in _VALUES or not is_absent(item)
        }
    return [_schema(item) for item in value] if isinstance(value, list) else value


@lru_cache(maxsize=64)
def _parameters(tools: str) -> dict[str, frozenset[str]]:
    """Tool -> names of its parameters, where its schema tells them."""
    found = {}
    for tool in json.loads(tools) if tools else []:
        schema = tool["function"].get("parameters")
        named = schema.get("properties") if isinstance(schema, dict) else None
        found[tool["function"]["name"]] = frozenset(named) if isinstance(named, dict) else frozenset()
    return found


def tool_names(tools: str) -> frozenset[str]:
    """Names of the tools in a JSON text that `tools_of` made."""
    return frozenset(_parameters(tools))


def calls_of(value: Any, where: str, tools: str = "") -> tuple[ToolCall, ...]:
    """The calls that a `tool_calls` or `function_call` value holds: a list or one, each flat or as OpenAI nests it."""
    if _is_nothing(value):
        return ()
    value = _structure(value, where, _NO_CALL)
    return tuple(_call(item, where, tools) for item in _each(value) if holds(item))


def known_calls(text: Any, tools: str) -> tuple[ToolCall, ...]:
    """The calls that an answer's text consists of; none where it is another text."""
    try:
        calls = calls_of(text, "the answer", tools)
    except RowProblem:
        return ()
    return calls if calls and all(call.name in tool_names(tools) for call in calls) else ()


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value]


def _call(item: Any, where: str, tools: str) -> ToolCall:
    item = _structure(item, where, _NO_CALL)
    if not isinstance(item, dict):
        raise RowProblem(_NO_CALL, f"{where}: a call must be an object with a name and arguments")
    kind = item.get("type")
    inner = _structure(item["function"], where, _NO_CALL) if holds(item.get("function")) else item
    if not isinstance(inner, dict) or kind not in (None, "function", "tool_call", "tool_use"):
        raise RowProblem(_NO_CALL, f"{where}: a call of the type {str(kind)[:40]!r} is not known")
    name = inner.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RowProblem(_NO_CALL, f"{where}: a call has no name")
    key = next((key for key in _ARGUMENTS if not is_absent(inner.get(key))), "")
    if not key:
        _refuse_others(inner, f"{where}: {name[:40]}")
    number = item.get("id")
    arguments = _arguments(inner.get(key) if key else None, f"{where}: {name[:40]}")
    known = _parameters(tools).get(name)
    if known is not None and known:
        arguments = {key: value for key, value in arguments.items() if key in known or not is_absent(value)}
    told = _text(arguments, where, _NO_CALL)
    return ToolCall(name, told, str(number) if holds(number) and isinstance(number, (str, int)) else "")


def _refuse_others(call: Mapping[str, Any], where: str) -> None:
    """A call whose arguments stand under a name that nobody knows is not a call without arguments."""
    others = [str(key) for key in call if key not in _CALL_KEYS and holds(call[key])]
    if others:
        known = ", ".join(_ARGUMENTS)
        raise RowProblem(
            _NO_CALL, f"{where}: no arguments, but {', '.join(others)[:80]}; arguments are called: {known}"
        )


def _arguments(value: Any, where: str) -> dict[str, Any]:
    if is_absent(value) or (isinstance(value, str) and not value.strip()):
        return {}
    if isinstance(value, str):
        try:
            value = parsed(value)
        except ValueError as error:
            raise RowProblem("call arguments are no JSON object", f"{where}: {str(error)[:80]}") from error
    if not isinstance(value, dict):
        raise RowProblem("call arguments are no JSON object", f"{where}: they are {str(value)[:40]!r}")
    return {str(key): item for key, item in value.items()}


def _text(value: Any, where: str, cause: str) -> str:
    try:
        return written(value)
    except ValueError as error:
        raise RowProblem(cause, f"{where}: {error}") from error


def _structure(value: Any, where: str, cause: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parsed(value)
    except ValueError as error:
        raise RowProblem(cause, f"{where}: neither JSON nor a list as Python writes it ({str(error)[:80]})") from error
