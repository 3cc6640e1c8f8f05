"""How a chat template writes tool calls and thoughts, learned by rendering probes with it.

No list of model families: a template is asked to write calls with known names and arguments, and what stands around
them is the form. `replies.py` reads answers with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from engine.data.answers import shared_length
from engine.data.chat import ChatTemplate, Tokenizer, render
from engine.data.conversation import Conversation

_NAMES = ("first_probe_tool", "other_probe_tool")
_KEYS = ("probe_key_one", "probe_key_two")
_VALUES = ("probe value one", "probe value two")
_ARGUMENTS = dict(zip(_KEYS, _VALUES, strict=True))
_THOUGHT, _TEXT = "probe thought", "probe text"
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "A tool.",
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string", "description": "A text."} for key in _KEYS},
                "required": list(_KEYS),
            },
        },
    }
    for name in _NAMES
]
NAME = "\0"
"""Stands for a tool's name in a piece of a form."""
_HALF_MARK = re.compile(r"[<\[|｜]+$")
_USER = {"role": "user", "content": "probe question"}


@dataclass(frozen=True, slots=True)
class CallForm:
    """What stands around the calls of an answer.

    `lead` goes before the first call, `joint` between two, `tail` behind the last. A call is an object with
    `name_key` and `arguments_key`; or a name, `between` and an object; or a name with its arguments one by one, where
    `keyed` is set.
    """

    lead: str
    joint: str
    tail: str
    name_key: str = ""
    arguments_key: str = ""
    between: str = ""
    keyed: KeyedForm | None = None


@dataclass(frozen=True, slots=True)
class KeyedForm:
    """Arguments one by one: what stands from the name to the first key, from a key to its value, and so on.

    `quote` encloses texts and nothing else. `bare` follows the name of a call without arguments. NAME in a piece is
    where the tool's name stands again.
    """

    to_key: str
    to_value: str
    quote: str
    to_next: str
    close: str
    bare: str


@dataclass(frozen=True, slots=True)
class ThoughtForm:
    """What stands before a thought and between it and the rest of the answer."""

    lead: str
    close: str


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How answers are written; a part that the template does not write is None."""

    calls: CallForm | None = None
    thought: ThoughtForm | None = None


def answer_form(tokenizer: Tokenizer, template: ChatTemplate) -> AnswerForm:
    """The form of answers in this template."""
    single = _answer(tokenizer, template, calls=1)
    double = _answer(tokenizer, template, calls=2)
    thought = _thought_form(tokenizer, template)
    form = _call_form(single, double) if single else None
    if form is not None and form.keyed is not None:
        empty = _answer(tokenizer, template, calls=1, arguments={})
        form = replace(form, keyed=replace(form.keyed, bare=_bare(empty, form.tail)))
    if form is not None:
        # What ends every answer is no part of its calls: text may stand between, and the token that ends it is gone.
        end = _answer(tokenizer, template, content=_TEXT).partition(_TEXT)[2].strip()
        form = replace(form, tail=form.tail.removesuffix(end).strip())
    if form is not None and thought is not None:
        # Some templates write an empty thought before a call: it is no part of the call.
        form = replace(form, lead=form.lead.split(thought.close)[-1].strip())
    return AnswerForm(form, thought)


def _bare(empty: str, tail: str) -> str:
    place = empty.find(_NAMES[0]) + len(_NAMES[0])
    end = empty.rfind(tail)
    return empty[place:end].strip() if end > place else ""


def _answer(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    calls: int = 0,
    content: str = "",
    thought: str = "",
    arguments: Mapping[str, str] = MappingProxyType(_ARGUMENTS),
) -> str:
    """What the template writes for an answer behind the start of it; empty where it refuses."""
    turn: dict[str, Any] = {"role": "assistant", "content": content}
    if thought:
        turn["reasoning_content"] = thought
    if calls:
        turn["tool_calls"] = [
            {"type": "function", "id": f"probe{number:04}", "function": {"name": name, "arguments": dict(arguments)}}
            for number, name in enumerate(_NAMES[:calls])
        ]
    # A template may write calls and no list of tools: it refuses a conversation that has one.
    for tools in (_TOOLS, []) if calls else ([],):
        prompt = render(tokenizer, template, [Conversation([_USER], tools)], generation=True)[0]
        whole = render(tokenizer, template, [Conversation([_USER, turn], tools)], generation=False)[0]
        if isinstance(prompt, str) and isinstance(whole, str):
            return behind(prompt, whole)
    return ""


def behind(prompt: str, whole: str) -> str:
    """What the whole text has behind its prompt, or behind as much of it as is the same."""
    shared = _shared(prompt, whole)
    # Two marks may begin alike: the answer's begins where its mark does.
    return whole[len(shared if len(shared) == len(prompt) else _HALF_MARK.sub("", shared)) :]


def _call_form(single: str, double: str) -> CallForm | None:
    found = _located(single, _NAMES[0])
    if found is None:
        return None
    start, end, form = found
    joint = ""
    first, other = (_located(double, name) for name in _NAMES)
    if first is not None and other is not None and first[1] <= other[0]:
        joint = double[first[1] : other[0]]
    return replace(form, lead=single[:start].strip(), joint=joint.strip(), tail=single[end:].strip())


def _located(text: str, name: str) -> tuple[int, int, CallForm] | None:
    """Where a call stands, first character and one behind the last, and how it is written."""
    place = text.find(name)
    if place < 0:
        return None
    for at, end, value in _objects_in(text):
        keys = _keys_of(value, name) if at < place < end else None
        if keys is not None:
            return at, end, CallForm("", "", "", *keys)
        if at > place and value == _ARGUMENTS:
            return place, end, CallForm("", "", "", between=text[place + len(name) : at].strip())
    return _keyed(text, name, place)


def _keys_of(value: Any, name: str) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    named = next((key for key, item in value.items() if item == name), None)
    given = next((key for key, item in value.items() if item in (_ARGUMENTS, json.dumps(_ARGUMENTS))), None)
    if named is None and isinstance(value.get("function"), dict):
        inner = _keys_of(value["function"], name)
        return None if inner is None else (f"function.{inner[0]}", f"function.{inner[1]}")
    return None if named is None or given is None else (named, given)


def _keyed(text: str, name: str, place: int) -> tuple[int, int, CallForm] | None:
    """Arguments one by one, as `<parameter=KEY>VALUE</parameter>`."""
    pieces, position = [], place + len(name)
    for part in (_KEYS[0], _VALUES[0], _KEYS[1], _VALUES[1]):
        found = text.find(part, position)
        if found < 0:
            return None
        pieces.append(text[position:found])
        position = found + len(part)
    rest = text[position:]
    if not pieces[1].strip():
        return None
    # What closes a value is the same behind the last one, up to the next key or the call's end.
    close = _shared(pieces[2].lstrip(), rest.lstrip()).removesuffix("<").rstrip()
    quote = _quote(pieces[1], close)
    blank = len(rest) - len(rest.lstrip())
    to_next = pieces[2].lstrip()[len(close) :]
    told = [piece.replace(name, NAME) for piece in (pieces[0], pieces[1].removesuffix(quote), to_next)]
    keyed = KeyedForm(told[0], told[1], quote, told[2], close, "")
    return place, position + blank + len(close), CallForm("", "", "", keyed=keyed)


def _quote(opening: str, close: str) -> str:
    """What stands right before and right behind a text."""
    lengths = range(min(len(opening), len(close)), 0, -1)
    return next((close[:length] for length in lengths if opening.endswith(close[:length])), "")


def _shared(one: str, other: str) -> str:
    """What both texts begin with."""
    return one[: shared_length(one, other)]


def _objects_in(text: str) -> Iterator[tuple[int, int, Any]]:
    """JSON objects in a text that are in no other one: first character, one behind the last, value."""
    decoder, position = json.JSONDecoder(), text.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(text, position)
        except (RecursionError, ValueError):
            end = position + 1
        else:
            yield position, end, value
        position = text.find("{", end)


def _thought_form(tokenizer: Tokenizer, template: ChatTemplate) -> ThoughtForm | None:
    answer = _answer(tokenizer, template, content=_TEXT, thought=_THOUGHT)
    start, end = answer.find(_THOUGHT), answer.find(_TEXT)
    if start < 0 or end < start:
        return None
    between = answer[start + len(_THOUGHT) : end]
    calling = _answer(tokenizer, template, calls=1, thought=_THOUGHT)
    place = calling.find(_THOUGHT)
    if place >= 0:
        between = _shared(between, calling[place + len(_THOUGHT) :])
    return ThoughtForm(answer[:start].strip(), between.strip()) if between.strip() else None
