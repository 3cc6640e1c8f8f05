"""What a chat template reads of a conversation, found by rendering: words that are handed in must come back.

A template drops what it does not read without a word, so each part is tried with words of its own, in each form that
published templates ask for. `adapt.py` puts conversations into the forms found here.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.data.answers import shared_length
from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.rendering import run_template

Thoughts = Literal["", "reasoning_content", "thinking", "reasoning", "thought", "inline"]
"""The key of an answer's thoughts; inline = before the answer, in think marks; '' = no place for them."""
Ids = Literal["any", "nine", "none"]
"""Ids of calls: as they are; nine letters or digits and nothing else; not at all."""

_SYSTEM, _USER, _ANSWER = "qwsystemz", "qwuserz", "qwanswerz"
_TOOL, _KEY, _VALUE, _RESULT, _THOUGHT, _NAME = "qwtoolz", "qwkeyz", "qwvaluez", "qwresultz", "qwthoughtz", "qwnamez"
_SECOND = "qwsecondz"
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "Looks.",
            "parameters": {
                "type": "object",
                "properties": {_KEY: {"type": "string", "description": "What."}},
                "required": [_KEY],
            },
        },
    }
]
_KEYS: tuple[Thoughts, ...] = ("reasoning_content", "thinking", "reasoning", "thought")
RESULT_ROLES = ("tool", "ipython", "observation", "function", "tool_response")


@dataclass(frozen=True, slots=True)
class Reads:
    """What a template writes of what it is handed, and the form that it asks for.

    False = it drops the part without a word; a part that it refuses aloud counts as read: its own words say why.
    """

    system: bool
    tools: bool
    thoughts: Thoughts
    calls: bool
    results: bool
    arguments_as_text: bool = False
    """Call arguments as JSON text; else as an object."""
    ids: Ids = "any"
    ids_needed: bool = False
    names_read: bool = False
    """It writes which tool a result is from."""
    several_calls: bool = True
    """It writes every call of an answer, not the first one alone."""
    content_beside_calls: bool = True
    null_content: bool = False
    """An answer that only calls has no content at all, not an empty one."""
    result_role: str = "tool"
    thought_closing: str = ""
    """What it writes between a thought and the text behind."""
    call_closing: str = ""
    """What it writes between what a call says and the next call."""
    header: str = ""
    """What it writes before an answer, where it has no start of an answer to append."""
    parts: bool = False
    """Content must be a list of parts, as templates of models that also see have it."""


@functools.lru_cache(maxsize=64)
def reads_of(source: str, shared_json: str) -> Reads:
    """What the template reads. `shared_json`: what it is rendered with, as JSON."""
    shared = json.loads(shared_json)
    probe = _Probe(source, shared)
    if not probe.keeps(_USER, [_user()]) and _Probe(source, shared, parts=True).keeps(_USER, [_user()]):
        probe = _Probe(source, shared, parts=True)
    tools = probe.keeps(_TOOL, [_user()], tools=True)
    system = probe.keeps(_SYSTEM, [{"role": "system", "content": _SYSTEM}, _user()])
    form = _call_form(probe, tools)
    thoughts, closing = _thoughts(probe)
    reads = Reads(system, tools, thoughts, form is not None, results=True, thought_closing=closing, parts=probe.parts)
    reads = replace(reads, header=_header(probe))
    if form is None:
        result = {"role": "tool", "content": _RESULT}
        return replace(
            reads,
            calls=all(
                probe.keeps(_VALUE, [_user(), one.turn], tools) for one in (*_forms(), _Form(False, "", _ANSWER))
            ),
            results=probe.keeps(_RESULT, [_user(), {"role": "assistant", "content": _ANSWER}, result]),
        )
    return _with_results(probe, tools, form, reads)


def shared_of(tokenizer: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What every conversation is rendered with: the names of special tokens, and the profile's arguments."""
    return {**tokenizer.special_tokens_map, **arguments}


class _Probe:
    """Renders small conversations; a template that refuses one gives no text."""

    def __init__(self, source: str, shared: Mapping[str, Any], parts: bool = False) -> None:
        self.source, self.shared, self.parts = source, shared, parts

    def text(self, turns: list[dict[str, Any]], tools: bool = False, generation: bool = False) -> str:
        if self.parts:
            turns = [turn | {"content": as_parts(turn["content"])} for turn in turns]
        conversation = Conversation(turns, _TOOLS if tools else [])
        found = run_template(self.source, [conversation], self.shared, generation=generation)[0]
        return "" if isinstance(found, RowProblem) else found

    def keeps(self, word: str, turns: list[dict[str, Any]], tools: bool = False) -> bool:
        """Whether the word comes back, or the template refuses the conversation."""
        text = self.text(turns, tools)
        return not text or word in text


@dataclass(frozen=True, slots=True)
class _Form:
    arguments_as_text: bool
    id: str
    content: str | None

    @property
    def turn(self) -> dict[str, Any]:
        arguments = {_KEY: _VALUE}
        function = {"name": _TOOL, "arguments": json.dumps(arguments) if self.arguments_as_text else arguments}
        call: dict[str, Any] = {"type": "function", "function": function}
        if self.id:
            call["id"] = self.id
        return {"role": "assistant", "content": self.content, "tool_calls": [call]}


def _twice(form: _Form) -> dict[str, Any]:
    """An answer with a second call, whose argument is another."""
    turn = form.turn
    second = _Form(form.arguments_as_text, form.id and f"{form.id[:-1]}2", form.content).turn["tool_calls"][0]
    function = second["function"]
    given = {_KEY: _SECOND}
    function["arguments"] = json.dumps(given) if form.arguments_as_text else given
    return turn | {"tool_calls": [*turn["tool_calls"], second]}


_IDS = ("", "call_qwidz0000001", "qwid00001")


def _forms() -> Iterator[_Form]:
    for made in itertools.product((False, True), _IDS, ("", None)):
        yield _Form(*made)


def _call_form(probe: _Probe, tools: bool) -> _Form | None:
    """The first form in which a call is written whole; else one in which it is written at all."""
    fallback = None
    for form in _forms():
        text = probe.text([_user(), form.turn], tools)
        if _TOOL not in text or _VALUE not in text[text.find(_USER) :]:
            continue
        if _is_plain(text[text.find(_USER) :]):
            return form
        fallback = fallback or form
    return fallback


def _is_plain(text: str) -> bool:
    """Whether no JSON text stands quoted in another, and no Python value in the place of JSON."""
    return f"'{_KEY}'" not in text and f'\\"{_KEY}\\"' not in text and "None" not in text


def _with_results(probe: _Probe, tools: bool, form: _Form, reads: Reads) -> Reads:
    def calls_with(id: str, role: str, named: bool, content: str | None = form.content) -> str:
        turn = _Form(form.arguments_as_text, id, content).turn
        result = {"role": role, "content": _RESULT} | ({"tool_call_id": id} if id else {})
        return probe.text([_user(), turn, result | ({"name": _TOOL} if named else {})], tools)

    roles = sorted(RESULT_ROLES, key=lambda role: not _names(probe.source, role))
    found = None
    dropped = False
    for role, named, id in itertools.product(roles, (False, True), dict.fromkeys((form.id, *_IDS))):
        text = calls_with(id, role, named)
        dropped = dropped or bool(text)
        if _RESULT in text and "None" not in text[text.rfind(_VALUE) :] and _role_is_read(probe.source, role):
            found = role, named, id
            break
    role, named, id = found or ("tool", False, form.id)
    heads = [_head(calls_with(id, one, named)) for one in ("tool", role)]
    before, _, behind = heads[0].rpartition("tool")
    if heads[0] and before + role + behind == heads[1]:
        role = "tool"  # it writes whatever role there is, and has the other word for something else
    written = [_VALUE in calls_with(one, role, named) for one in _IDS] if found else [True] * 3
    beside = probe.text([_user(), _Form(form.arguments_as_text, id, _ANSWER).turn], tools)
    twice = probe.text([_user(), _twice(form)], tools)
    return replace(
        reads,
        results=found is not None or not dropped,
        arguments_as_text=form.arguments_as_text,
        ids="any" if written[1] else "nine" if written[2] else "none",
        ids_needed=not written[0],
        names_read=calls_with(id, role, named=True) != calls_with(id, role, named=False),
        several_calls=not twice or _SECOND in twice,
        content_beside_calls=not beside or _ANSWER in beside,
        null_content=form.content is None,
        call_closing=_call_closing(probe, form, id, tools),
        result_role=role,
    )


def _call_closing(probe: _Probe, form: _Form, id: str, tools: bool) -> str:
    turn = _Form(form.arguments_as_text, id, form.content).turn
    single = probe.text([_user(), turn], tools)
    double = probe.text([_user(), turn | {"tool_calls": turn["tool_calls"] * 2}], tools)
    between = double[double.find(_VALUE, double.find(_USER)) + len(_VALUE) :]
    behind = single[single.rfind(_VALUE) + len(_VALUE) :]
    return behind[: shared_length(between, behind)] if _VALUE in between else ""


def _head(text: str) -> str:
    """What stands between a call and its result; empty where no result is written."""
    place = text.rfind(_RESULT)
    return text[text.rfind(_VALUE) : place] if place >= 0 else ""


def _names(source: str, role: str) -> bool:
    return f"'{role}'" in source or f'"{role}"' in source


def _role_is_read(source: str, role: str) -> bool:
    """A template that writes any role by its name takes `tool`; another name must stand in it."""
    return role == "tool" or _names(source, role)


def _thoughts(probe: _Probe) -> tuple[Thoughts, str]:
    """Where thoughts belong, and what stands between one and its answer."""
    called = {**_Form(False, "", "").turn}
    for key in _KEYS:
        text = probe.text([_user(), {"role": "assistant", "content": _ANSWER, key: _THOUGHT}])
        if _THOUGHT in text:
            return key, text.partition(_THOUGHT)[2].partition(_ANSWER)[0]
        if _THOUGHT in probe.text([_user(), called | {key: _THOUGHT}], tools=True):
            return key, ""
    text = probe.text([_user(), {"role": "assistant", "content": inlined(_THOUGHT, _ANSWER)}])
    if THINK_END in probe.source and _THOUGHT in text:
        return "inline", text.partition(_THOUGHT)[2].partition(_ANSWER)[0]
    return "", f"\n{THINK_END}\n\n" if THINK_END in probe.source else ""


THINK_END = "</think>"


def _header(probe: _Probe) -> str:
    """What stands between a question and any answer, where the template appends nothing for generation."""
    asked = [_user()]
    twice = [_user(), {"role": "assistant", "content": _ANSWER}, _user()]
    found = {_behind(probe, asked), _behind(probe, twice)}
    header = found.pop()
    return header if not found and header.strip() else ""


def _behind(probe: _Probe, asked: list[dict[str, Any]]) -> str:
    base = probe.text(asked)
    if not base or probe.text(asked, generation=True) != base:
        return ""
    texts = [probe.text([*asked, {"role": "assistant", "content": word}]) for word in (_ANSWER, "zx" + _ANSWER)]
    if not all(text.startswith(base) for text in texts):
        return ""
    return texts[0][len(base) : shared_length(*texts)]


def inlined(thought: str, answer: str) -> str:
    """A thought before its answer, as models that think write it."""
    return f"<think>\n{thought}\n</think>\n\n{answer}"


def as_parts(content: str | None) -> list[dict[str, str]]:
    """Content as a list of parts."""
    return [{"type": "text", "text": content}] if content else []


def _user() -> dict[str, Any]:
    return {"role": "user", "content": _USER}
