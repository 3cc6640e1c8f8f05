"""Tool use that a conversation writes as text between marks, as Hermes and Qwen do: read into tools, calls and results.

All of a conversation or nothing: where one mark cannot be read for certain the text stays as it is, and is trained so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.data.examples import Example, Message, RowProblem, ToolCall
from engine.data.reads import Reads
from engine.data.structured import json_decoder
from engine.data.tooling import calls_of, tool_names, tools_of

NOTE = "tools and calls written as text are read as tools and calls, where the template has them"
LEFT = "tool calls written as text stay text: nothing says which tools there are, or a mark cannot be read"
COMPARED = "tool calls written as text stay text in rows that compare or judge answers; tool_calls are read as calls"
KEPT = "rows keep their tool calls as text: the template has no place for calls"
_MOST_CALLS = 1000
_BEGINNINGS = (
    "# Tools\n",
    "You are a function calling AI model",
    "You may call one or more functions",
    "You are provided with function signatures",
)
_ENDING = re.compile(r"(?:(?:Use the following|For each (?:function|tool) call).*</tool_call>)?\s*", re.DOTALL)


def has_marks(messages: Sequence[Message]) -> bool:
    """Whether any message holds tools or calls as text."""
    return has_calls(messages) or (
        bool(messages) and messages[0].role == "system" and "</tools>" in messages[0].content
    )


def has_calls(messages: Sequence[Message]) -> bool:
    """Whether any answer holds calls as text."""
    return any("<tool_call>" in message.content for message in messages if message.role == "assistant")


def from_text(messages: Sequence[Message], tools: str) -> tuple[list[Message], str, bool] | None:
    """The messages with calls and results in place of their marks, the tools, and whether the text says these too.

    None where that is not certain. Tools come from a column (`tools`) or from a system message in one of the two known
    forms, which then says them no more: the template writes them.
    """
    found = list(messages)
    told = _tools_of_system(found[0].content) if found and found[0].role == "system" else None
    in_text = told is not None and tool_names(tools or told[1]) == tool_names(told[1])
    if told is not None and in_text:
        tools = tools or told[1]
        found[:1] = [replace(found[0], content=told[0])] if told[0] else []
    if not tools:
        return None
    turns: list[Message] = []
    for message in found:
        read = _read(message, tools)
        if read is None:
            return None
        turns += read
    return turns, tools, in_text


def _tools_of_system(text: str) -> tuple[str, str] | None:
    """What a system message says beside its tools, and the tools."""
    last = text.rfind("</tools>")
    first = text.rfind("<tools>", 0, max(last, 0))
    if first < 0 or not _ENDING.fullmatch(text[last + len("</tools>") :].lstrip()):
        return None
    before = text[:first]
    starts = [at for at in map(before.find, _BEGINNINGS) if at >= 0]
    if not starts:
        return None
    try:
        return before[: min(starts)].rstrip(), tools_of(_values(text[first + len("<tools>") : last].strip()))
    except (ValueError, RowProblem):
        return None


def _values(text: str) -> list[object]:
    """One JSON list, or one object a line."""
    if text.startswith("["):
        found = json_decoder.decode(text)
        return found if isinstance(found, list) else [found]
    values, position = [], 0
    while position < len(text):
        value, end = json_decoder.raw_decode(text, position)
        values.append(value)
        position = end
        while position < len(text) and text[position].isspace():
            position += 1
    return values


def _enclosed(text: str, mark: str) -> list[str] | None:
    """What stands between pairs of a mark that make up all of a text; None where anything else does."""
    opening, closing = f"<{mark}>", f"</{mark}>"
    pieces = text.strip().split(closing)
    if pieces.pop().strip():
        return None
    pieces = [piece.lstrip() for piece in pieces]
    if not all(piece.startswith(opening) and opening not in piece[len(opening) :] for piece in pieces):
        return None
    return [piece[len(opening) :].strip() for piece in pieces]


def _read(message: Message, tools: str) -> list[Message] | None:
    if message.role == "assistant" and "<tool_call>" in message.content:
        return _answer(message, tools)
    if message.role in ("user", "tool") and "<tool_response>" in message.content:
        results = _enclosed(message.content, "tool_response")
        if results is None:
            return None
        return [Message("tool", result, name=message.name, call_id=message.call_id) for result in results]
    return [message]


def _answer(message: Message, tools: str) -> list[Message] | None:
    head, _, _ = message.content.partition("<tool_call>")
    blocks = _enclosed(message.content[len(head) :], "tool_call")
    if blocks is None or len(blocks) > _MOST_CALLS:
        return None
    calls: list[ToolCall] = []
    try:
        for block in blocks:
            calls += calls_of(block, "a call", tools)
    except RowProblem:
        return None
    return [replace(message, content=head.strip(), calls=(*message.calls, *calls))] if calls else None


def for_template(
    examples: Sequence[Example], reads: Callable[[], Reads], notes: Counter[str] | None = None
) -> list[Example]:
    """The examples with their calls as text again where that is how the row has them and the template has no calls.

    `notes` counts them.
    """
    return [_text_again(example, notes) if example.as_text and not _holds(reads()) else example for example in examples]


def _holds(reads: Reads) -> bool:
    return reads.tools and reads.calls and reads.results


def _text_again(example: Example, notes: Counter[str] | None) -> Example:
    if notes is not None:
        notes[KEPT] += 1
    return replace(example, messages=example.as_text, tools="", as_text=())
