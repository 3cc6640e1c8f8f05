"""One message of a conversation, whatever its keys are called: who speaks, what, thoughts, calls, and what is learned.

`convert.py` puts messages together. Keys that are null count as absent: a table gives each message the keys of all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from engine.data.examples import Message, RowProblem, ToolCall
from engine.data.own_words import OwnWords
from engine.data.structured import holds, is_absent, parsed, written
from engine.data.tooling import calls_of
from engine.data.unread import MEDIA, RowNotes

CALL = "call"
_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "function_response": "tool",
    "function_call": CALL,
    "tool_call": CALL,
    "tool_calls": CALL,
}
REASONING = ("reasoning_content", "thinking", "reasoning", "thought")
_CALLS = ("tool_calls", "function_call")
_SPOKEN = ("content", "value")
_TURNS_ON = ("train", "trainable", "training", "train_on_turn")
_WEIGHS = ("weight", "loss", "loss_weight", "loss_scale")
_IDS = ("tool_call_id", "call_id")
_PLAIN = frozenset(("role", "from", *_SPOKEN))
_KNOWN = _PLAIN | {*REASONING, *_CALLS, *_TURNS_ON, *_WEIGHS, *_IDS, "name", "tools", "functions"}
_SAID = frozenset(("role", "from", "content", "value", "tool_calls", "function_call"))
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_THOUGHT_PARTS = ("thinking", "reasoning")
_ON, _OFF = (True, 1, "true", "True", "1"), (False, 0, "false", "False", "0")


@dataclass(frozen=True, slots=True)
class Reading:
    """How values of a data set are taken: its kind of file, numbers and empty words as text, own names of messages."""

    kind: str = "jsonl"
    values_as_text: bool = False
    words: OwnWords | None = None


def read_turns(items: Any, notes: RowNotes, reading: Reading, tools: str = "", default: str = "") -> list[Message]:
    """Messages of a list; `default` is the role of those that have none. Raises RowProblem."""
    found: list[Message] = []
    for position, item in enumerate(items, 1):
        where = f"message {position}"
        item = item if isinstance(item, dict) else _object(item, position)
        role = _role(item, where, default)
        message = _message(item, role, where, notes, reading, tools)
        if role == CALL and found and _is_begun(found[-1], message):
            # The same answer, written as two messages.
            last = found.pop()
            message = replace(last, calls=(*last.calls, *message.calls), reasoning=last.reasoning or message.reasoning)
        found.append(message)
    return found


def _is_begun(last: Message, call: Message) -> bool:
    two_thoughts = bool(last.reasoning and call.reasoning)
    return last.role == "assistant" and last.train == call.train and not two_thoughts


def tools_in(items: Any) -> Any:
    """The tools that a message itself names, as a system message may; None where none does. RowProblem for two."""
    found = [
        item[key]
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict)
        for key in ("tools", "functions")
        if key in item and holds(item[key])
    ]
    if any(tools != found[0] for tools in found):
        raise RowProblem("tools cannot be read", "messages name several lists of tools, and a conversation has one")
    return found[0] if found else None


def _object(item: Any, position: int) -> dict[str, Any]:
    if isinstance(item, str):
        with suppress(ValueError):
            item = parsed(item)
    if not isinstance(item, dict):
        raise RowProblem("wrong type", f"message {position} is {kind_of(item)}, not an object")
    return item


def _role(item: Mapping[str, Any], where: str, default: str) -> str:
    speaker = item.get("role")
    if speaker.__class__ is str and speaker in _SPEAKERS:
        return _SPEAKERS[speaker]
    if is_absent(speaker):
        speaker = item.get("from")
    if is_absent(speaker):
        if default:
            return default
        have = ", ".join(str(key)[:40] for key, value in item.items() if not is_absent(value)) or "none"
        way = f"needs role and content, or from and value, or their names in message_keys; it has: {have}"
        raise RowProblem("unknown message keys", f"{where} {way}")
    role = _SPEAKERS.get(speaker) or _SPEAKERS.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        known = "system, user, assistant, tool; speakers in its [[data.datasets]] entry names others"
        raise RowProblem("unknown role", f"{where}: {str(speaker)[:40]!r}; known: {known}")
    return role


def _message(item: Mapping[str, Any], role: str, where: str, notes: RowNotes, reading: Reading, tools: str) -> Message:
    content = item.get("content")
    if is_absent(content):
        content = item.get("value")
    if item.keys() <= _PLAIN and isinstance(content, str) and role in ("system", "user", "assistant"):
        return _checked(Message(role, content, role == "assistant"), content, where)
    _check_rest(item, role, where, notes)
    if role in ("assistant", CALL):
        return _answer(item, content, role, where, reading, tools)
    if any(holds(item.get(key)) for key in _CALLS):
        raise RowProblem("a call outside an answer", f"{where} is no answer, but has tool calls")
    train_of(item, role, where, notes)
    name = _word(item, "name", where)
    if role == "tool":
        return Message(role, _result(content, where), name=name, call_id=_call_id(item, where))
    text, _ = _parted(content, where)
    return _checked(Message(role, text_of(text, where, "prompt", reading), name=name), content, where)


def _checked(message: Message, content: Any, where: str) -> Message:
    if message.role == "user" and not message.content.strip():
        raise RowProblem("missing prompt", f"{where} is empty")
    if message.role == "assistant" and not message.content.strip() and not message.calls:
        what = "is empty" if not is_absent(content) else "has no content"
        raise RowProblem("missing answer", f"{where} {what}")
    return message


def _answer(item: Mapping[str, Any], content: Any, role: str, where: str, reading: Reading, tools: str) -> Message:
    thoughts = [text_of(item[key], where, "reasoning", reading) for key in REASONING if holds(item.get(key))]
    calls = tuple(call for key in _CALLS for call in calls_of(item.get(key), where, tools))
    text, thought = _parted(content, where)
    if role == CALL:
        thought, text = _before_call(text, where, tools)
        calls, text = (*calls, *calls_of(text, where, tools)), ""
    reasoning = next((one for one in (*thoughts, thought) if one.strip()), "")
    answer = "" if calls and is_absent(text) else text_of(text, where, "answer", reading)
    train = train_of(item, "assistant", where, RowNotes())
    name = _word(item, "name", where)
    return _checked(Message("assistant", answer, train, reasoning, calls, name), content, where)


def _before_call(content: Any, where: str, tools: str) -> tuple[str, Any]:
    """Thought and call of a message that is a call: the thought may stand before it, between its marks."""
    if not isinstance(content, str):
        return "", content
    if not content.strip():
        raise RowProblem("missing answer", f"{where} is a call without a name")
    head, mark, rest = content.partition("</think>")
    if mark and head.lstrip().startswith("<think>"):
        return head.lstrip().removeprefix("<think>").strip(), rest.strip()
    return "", content


def _check_rest(item: Mapping[str, Any], role: str, where: str, notes: RowNotes) -> None:
    """Refuse or note the keys that nobody reads."""
    unknown = item.keys() - _KNOWN
    for key in unknown:
        if not holds(item[key]):
            continue
        if str(key).lower() in MEDIA:
            raise RowProblem("images, audio and video are not read", f"{where} has '{key}'")
        notes.leave("message key", [str(key)])
    if role not in ("assistant", CALL):
        notes.leave("message key", (f"{key} of {_turn(role)}" for key in REASONING if holds(item.get(key))))
    if role != "tool":
        notes.leave("message key", (f"{key} of {_turn(role)}" for key in _IDS if holds(item.get(key))))
    both = [key for key in _SPOKEN if holds(item.get(key))]
    if len(both) > 1 and item["content"] != item["value"]:
        raise RowProblem("two contents", f"{where} has content and value, and they differ")


def _turn(role: str) -> str:
    return "an answer" if role in ("assistant", CALL) else f"a {role} turn"


def train_of(item: Mapping[str, Any], role: str, where: str, notes: RowNotes) -> bool:
    """Whether the loss sees a message, by its switches. Raises RowProblem for what is neither on nor off."""
    trained = True
    for key in (*_TURNS_ON, *_WEIGHS):
        value = item.get(key)
        if is_absent(value):
            continue
        if isinstance(value, (list, dict)) or value not in (*_ON, *_OFF):
            told = "an answer is learned (true or 1) or not (false or 0)"
            raise RowProblem("wrong type", f"{where}: {key} is {str(value)[:40]!r}; {told}")
        trained = trained and value in _ON
        if role != "assistant" and value in _ON:
            if key in _TURNS_ON:
                detail = f"{where}, role {role}: {key} is true; remove it, or set it to false"
                raise RowProblem("only answers can be trained", detail)
            notes.leave("message key", [f"{key} of {_turn(role)}"])
    return trained


def _parted(content: Any, where: str) -> tuple[Any, str]:
    """Text and thought of content that is a list of parts; anything else as it is."""
    if not isinstance(content, list):
        return content, ""
    texts, thoughts = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            if any(holds(value) for key, value in part.items() if str(key).lower() in MEDIA):
                raise RowProblem("not text", f"{where} holds images, audio or other parts")
            texts.append(part["text"])
        elif isinstance(part, dict) and kind in _THOUGHT_PARTS:
            thoughts.append(_thought(part, where))
        else:
            named = f" of the type {str(kind)[:40]!r}" if isinstance(kind, str) else ""
            raise RowProblem("not text", f"{where} holds images, audio or other parts{named}")
    return "".join(texts), "".join(thoughts)


def _thought(part: Mapping[str, Any], where: str) -> str:
    value = next((part[key] for key in (*REASONING, "text", "content") if holds(part.get(key))), "")
    text, _ = _parted(value, where)
    if not isinstance(text, str):
        raise RowProblem("wrong type", f"{where}: a thought is {kind_of(text)}, not text")
    return text


def _result(content: Any, where: str) -> str:
    """What a tool gave: text, or the JSON text of a value."""
    if is_absent(content):
        return ""
    if isinstance(content, list) and content and all(isinstance(part, dict) and "type" in part for part in content):
        content, _ = _parted(content, where)
    try:
        return content if isinstance(content, str) else written(content)
    except ValueError as error:
        raise RowProblem("wrong type", f"{where}: {error}") from error


def _call_id(item: Mapping[str, Any], where: str) -> str:
    return next((text for key in _IDS if (text := _word(item, key, where))), "")


def _word(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not holds(value):
        return ""
    if not isinstance(value, (str, int)):
        raise RowProblem("wrong type", f"{where}: {key} is {kind_of(value)}, not text")
    return str(value)


def check_turns(value: Any, column: str) -> None:
    """Refuse a list or an object that is no message: it is neither an answer's text nor a conversation."""
    items = value if isinstance(value, list) else [value] if isinstance(value, dict) else []
    if isinstance(value, (list, dict)) and not any(isinstance(item, dict) and _SAID & item.keys() for item in items):
        raise RowProblem("wrong type", f"'{column}' is {kind_of(value)}, neither text nor messages")


def text_of(value: Any, column: str, what: str, reading: Reading) -> str:
    """A value as text, '' for none. Raises RowProblem for what is no text, unless the data set asks for numbers."""
    if isinstance(value, str):
        return value
    if is_absent(value):
        return ""
    if reading.values_as_text and isinstance(value, (bool, int, float)):
        return json.dumps(value)
    way = "; values_as_text = true in its [[data.datasets]] entry takes numbers as text"
    way = way if isinstance(value, (bool, int, float)) else ""
    raise RowProblem("wrong type", f"{what} in '{column}' is {kind_of(value)}, not text{way}")


def kind_of(value: Any) -> str:
    """What a parsed value is, in words."""
    if is_absent(value):
        return "null"
    kinds: tuple[tuple[Any, str], ...] = (
        (bool, "true or false"),
        (str, "text"),
        (dict, "an object"),
        (list, "a list"),
        ((int, float), "a number"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)


def with_calls(message: Message, calls: tuple[ToolCall, ...], content: str) -> Message:
    """The answer with calls that stood in its text."""
    return replace(message, content=content, calls=(*message.calls, *calls))
