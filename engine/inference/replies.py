"""What an answer holds: its thought, its text and its tool calls, read from what a model wrote.

`call_forms.py` knows how the template writes them. Answers are a model's: whatever they hold, reading them ends in
words, never in an error.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.examples import ToolCall
from engine.inference.call_forms import NAME, AnswerForm, CallForm, KeyedForm, ThoughtForm

MOST_CALLS, MOST_DEPTH = 64, 64
_THINK = ThoughtForm("<think>", "</think>")
"""Read also where the template writes no thoughts, because models write them all the same."""
_KNOWN = (
    CallForm("<tool_call>", "</tool_call>\n<tool_call>", "</tool_call>", "name", "arguments"),
    CallForm("to=functions.", "", "<|call|>", between="<|constrain|>json<|message|>"),
)
"""Forms that models know from elsewhere, whatever their template: Hermes and Qwen, gpt-oss."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in parts. `problem`: why something that looks like a call cannot be read; empty where all could."""

    text: str
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    problem: str = ""


class _NotACall(Exception):
    """What stands there is no call; the message says why."""


def read_reply(written: str, form: AnswerForm) -> Reply:
    """An answer, with its special tokens but without the one that ended it, in parts."""
    thought, rest = _split_thought(written, form.thought or _THINK)
    problem = ""
    for calls in (form.calls, *_KNOWN):
        if calls is None or not _begins(rest, calls):
            continue
        try:
            return _with_calls(rest, calls, thought)
        except _NotACall as found:
            problem = problem or str(found)
    return Reply(rest.strip(), thought, (), problem)


def said(written: str, reference: str, form: AnswerForm, *, calls: bool) -> str | None:
    """What an answer says, to be compared with a reference that has no thought: without its own, and without its calls
    where `calls` were wanted beside the text. None where there is nothing to leave out.
    """
    thought = form.thought or _THINK
    if thought.close in reference or not (calls or thought.close in written):
        return None
    return read_reply(written, form).text if calls else _split_thought(written, thought)[1].strip()


def _split_thought(written: str, form: ThoughtForm) -> tuple[str, str]:
    """The thought, and what follows it. An answer may begin in the middle of one, where the prompt opened it.

    One that was begun and not ended is all a thought: what it thinks of calling is no call.
    """
    if form.close not in written:
        begun = bool(form.lead) and written.lstrip().startswith(form.lead)
        return (written.strip().removeprefix(form.lead).strip(), "") if begun else ("", written)
    thought, rest = written.split(form.close, 1)
    return thought.strip().removeprefix(form.lead).strip(), rest


def _begins(text: str, form: CallForm) -> bool:
    if form.lead:
        return form.lead in text
    # Without a mark before it a call is an object with both keys; any other object is an answer in JSON.
    keys = [f'"{key}"' for name in (form.name_key, form.arguments_key) for key in name.split(".")]
    return bool(form.name_key) and text.lstrip().startswith("{") and all(key in text for key in keys)


def _with_calls(text: str, form: CallForm, thought: str) -> Reply:
    """Every call, also behind text that follows others."""
    texts, calls, rest = list[str](), list[ToolCall](), text
    while not calls or (form.lead and form.lead in rest):
        before, rest = rest.split(form.lead, 1) if form.lead else ("", rest)
        found, position = _calls_at(rest, form)
        end = _tail_end(form.tail, rest, position)
        rest = rest[position if end is None else end :]
        texts.append(before.strip())
        calls += found
        if len(calls) > MOST_CALLS:
            raise _NotACall(f"there are more than {MOST_CALLS} calls")
    return Reply("\n".join(filter(None, [*texts, rest.strip()])), thought, tuple(calls))


def _calls_at(text: str, form: CallForm) -> tuple[list[ToolCall], int]:
    """The calls at the start of a text, and where the last one ends."""
    calls: list[ToolCall] = []
    position = len(text) - len(text.lstrip())
    while True:
        call, position = _call_at(text, position, form)
        calls.append(call)
        joined = _match(form.joint, text, position) if form.joint else None
        if joined is None or len(calls) > MOST_CALLS:
            return calls, position
        position = joined + len(text[joined:]) - len(text[joined:].lstrip())


def _call_at(text: str, position: int, form: CallForm) -> tuple[ToolCall, int]:
    if form.keyed is not None:
        return _keyed_at(text, position, form, form.keyed)
    if form.name_key:
        value, end = _object_at(text, position)
        name, given = _inner(value, form.name_key), _inner(value, form.arguments_key)
        if not isinstance(name, str) or not name:
            raise _NotACall(f"the call has no '{form.name_key}'")
        return _call(name, _arguments(given, name)), end
    return _named_at(text, position, form.between)


def _inner(value: Any, key: str) -> Any:
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _call(name: str, arguments: Mapping[str, Any]) -> ToolCall:
    """The call as rows hold it, which are as bounded; half a character and NaN have no place in a prompt."""
    if _is_deep(arguments):
        raise _NotACall(f"the arguments of {name[:40]} are nested deeper than {MOST_DEPTH}")
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        (name + written).encode()
    except (TypeError, ValueError):
        raise _NotACall(f"the arguments of {name[:40]} hold what JSON has no form for") from None
    return ToolCall(name, written)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH):
        inner = [
            one.values() if isinstance(one, dict) else one if isinstance(one, (list, tuple)) else () for one in level
        ]
        level = [item for items in inner for item in items]
    return bool(level)


def _arguments(given: Any, name: str) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (RecursionError, ValueError):
            raise _NotACall(f"the arguments of {name} are not JSON") from None
    if not isinstance(given, dict):
        raise _NotACall(f"the arguments of {name} are no object")
    return given


def _object_at(text: str, position: int) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, position)
    except (RecursionError, ValueError) as error:
        raise _NotACall(f"the call is not JSON: {str(error)[:80]}") from None


def _named_at(text: str, position: int, between: str) -> tuple[ToolCall, int]:
    """A name, what stands between, and an object."""
    pattern = rf"\s*([\w.\-/]+?)\s*{_loose(between)}\s*(?=\{{)" if between else r"\s*([\w.\-/]+)\s*(?=\{)"
    match = re.compile(pattern).match(text, position)
    if match is None:
        raise _NotACall("the call names no tool with arguments behind it")
    value, end = _object_at(text, match.end())
    return _call(match[1], _arguments(value, match[1])), end


def _keyed_at(text: str, position: int, form: CallForm, keyed: KeyedForm) -> tuple[ToolCall, int]:
    """A name and arguments one by one."""
    named = re.compile(r"\s*([\w.\-/]+)").match(text, position)
    if named is None:
        raise _NotACall("the call names no tool")
    name, place, found = named[1], _match(keyed.to_key, text, named.end()), dict[str, Any]()
    while place is not None and len(found) < MOST_CALLS:
        argument = _argument_at(text, place, form, keyed)
        if argument is None:
            break
        key, value, end = argument
        found[key], place = value, _match(keyed.to_next, text, end)
        if place is None:
            return _call(name, found), end
    bare = _match(keyed.bare, text, named.end()) if keyed.bare else named.end()
    if found or bare is None or not _follows(text, bare, form):
        raise _NotACall(f"the arguments of {name} cannot be read")
    return ToolCall(name), bare


def _follows(text: str, position: int, form: CallForm) -> bool:
    """Whether another call or the end of the calls stands there."""
    joined = _match(form.joint, text, position) if form.joint else None
    return joined is not None or _tail_end(form.tail, text, position) is not None


def _argument_at(text: str, position: int, form: CallForm, keyed: KeyedForm) -> tuple[str, Any, int] | None:
    """Key, value and where it ends; None where no argument stands."""
    key = re.compile(rf"\s*([\w.\-$]+)\s*{_loose(keyed.to_value)}").match(text, position)
    if key is None:
        return None
    place = key.end()
    if keyed.quote and not text.startswith(keyed.quote, place):
        value, end = _bare_value(text, place, (keyed.to_next.strip(), form.joint, form.tail))
        return key[1], value, end
    place += len(keyed.quote)
    end = text.find(keyed.close, place)
    if end < 0:
        return None
    written = text[place:end]
    return key[1], written if keyed.quote else _value(written.strip("\n")), end + len(keyed.close)


def _bare_value(text: str, position: int, marks: Sequence[str]) -> tuple[Any, int]:
    """A value without quotes: JSON, a literal of Python, or the text up to one of `marks`."""
    with contextlib.suppress(RecursionError, ValueError):
        return json.JSONDecoder().raw_decode(text, position)
    ends = sorted(found for mark in marks if mark for found in _places(mark, text, position))
    for end in ends[:MOST_CALLS]:
        with contextlib.suppress(MemoryError, RecursionError, SyntaxError, ValueError):
            return ast.literal_eval(text[position:end].strip()), end
    end = ends[0] if ends else len(text)
    return text[position:end].strip(), end


def _places(mark: str, text: str, position: int) -> list[int]:
    return [position + match.start() for match in re.finditer(re.escape(mark), text[position:])]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text


def _loose(literal: str) -> str:
    """A pattern for a text that may have other white space."""
    return r"\s*".join(re.escape(word).replace(re.escape(NAME), r"[\w.\-/]+") for word in literal.split())


def _match(literal: str, text: str, position: int) -> int | None:
    """Where `literal` ends in `text` from `position` on, white space aside; None where something else stands there."""
    match = re.compile(rf"\s*{_loose(literal)}").match(text, position)
    return None if match is None else match.end()


def _tail_end(tail: str, text: str, position: int) -> int | None:
    """Where the end of the calls ends: whole, or as much of it as there is, for the token that ended the answer went.

    None where something else stands there.
    """
    found = _match(tail, text, position)
    if found is not None:
        return found
    left = "".join(text[position:].split())
    return len(text) if "".join(tail.split()).startswith(left) else None
