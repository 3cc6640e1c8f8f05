"""Asking a chat template: conversations of every shape whose contents are marks, and where the marks come out.

A mark is a word that no template writes by itself, so that what a template writes can be cut into its own text and
slots. `learn.py` finds the rule behind the cuts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.export.ollama.json_forms import CONTENT_FORMS, FORMS, TOOL_FORMS
from engine.export.ollama.pieces import Slot

Render = Callable[[Sequence[Conversation], bool], list[str | RowProblem]]
"""Conversations as text, with the start of an answer or without."""
AROUND = ("\n\n\n\t ", '"q \t\n\n\n')
"""Put around the mark of a content, so that what a template takes away or escapes shows, and is not taken for blanks
that the template itself writes."""
CALLING, SILENT = "CcDdEekK", "CDEK"
"""Kinds of turns with calls, and those without text."""
COUNTS = {"D": 2, "E": 3}
LONGEST = 7
"""Turns of a conversation that is asked about, its system message aside."""
_MARK = re.compile(r"mark(?:S|T\d[NDPE]|\d+(?:X|R|N|ID|[FABVW]\d))|mk\d+ID\d+")
Mark = tuple[int, int, Slot]
"""(turn, call or tool, slot); -1 where there is none."""
Part = str | Mark
TOOLS = tuple(
    {
        "type": "function",
        "function": {
            "name": f"markT{number}N",
            "description": f'markT{number}D"q',
            "parameters": {
                "type": "object",
                "properties": {f"markT{number}P": {"type": "string", "description": f"markT{number}E"}},
                "required": [f"markT{number}P"],
            },
        },
    }
    for number in range(2)
)


@dataclass(frozen=True, slots=True)
class Written:
    """A text that a value may become, and where in it the first mark stands."""

    text: str
    before: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a template does with more than plain turns."""

    tools: bool = False
    """It writes the tools."""
    calls: bool = False
    """It writes calls and their results."""
    many_calls: bool = False
    thinking: bool = False
    think_switch: bool = False
    """`enable_thinking` changes what it writes."""
    late_system: bool = False
    """It takes system messages behind the first message."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Kinds of turns: U user, A answer, C call, D two calls, E three calls (c, d, e with text), T result, S system in
    the middle; with a thought a answer, k call with text, K call."""

    turns: str
    system: bool = False
    tools: bool = False
    think_off: bool = False

    def conversation(self, arguments: Mapping[str, Any]) -> Conversation:
        """With marks for contents."""
        turns = [turn_of(kind, number) for number, kind in enumerate(self.turns)]
        if self.system:
            turns.insert(0, {"role": "system", "content": _around("markS")})
        switch = {"enable_thinking": False} if self.think_off else {}
        return Conversation(turns, TOOLS if self.tools else (), {**arguments, **switch})


def turn_of(kind: str, number: int) -> dict[str, Any]:
    """A turn of one kind with its marks."""
    content = _around(f"mark{number}X")
    if kind in "UST":
        role = {"U": "user", "S": "system", "T": "tool"}[kind]
        extra = {"name": f"mark{number}N", "tool_call_id": f"mark{number:03}ID"} if kind == "T" else {}
        return {"role": role, "content": content, **extra}
    turn: dict[str, Any] = {"role": "assistant", "content": "" if kind in "CDEK" else content}
    if kind in "akK":
        turn["reasoning_content"] = _around(f"mark{number}R")
    if kind in CALLING:
        turn["tool_calls"] = [_call(number, index) for index in range(COUNTS.get(kind.upper(), 1))]
    return turn


def _around(mark: str) -> str:
    return mark.join(AROUND)


def _content(mark: str, number: int, kind: str) -> list[Written]:
    """A content in every form in which templates write it."""
    texts = {write(_around(mark)): form for form, write in CONTENT_FORMS.items()}
    return [Written(text, text.index(mark), (number, -1, Slot(kind, form))) for text, form in texts.items()]


def _call(number: int, index: int) -> dict[str, Any]:
    arguments = {f"mark{number}{key}{index}": f'mark{number}{value}{index}"q' for key, value in ("AV", "BW")}
    named = {"name": f"mark{number}F{index}", "arguments": arguments}
    return {"type": "function", "id": f"mk{number:03}ID{index:02}", "function": named}


@lru_cache(maxsize=256)
def _marks_of(kind: str, number: int) -> tuple[Written, ...]:
    """What the turn may leave behind: its contents, and the arguments as JSON in every form."""
    turn = turn_of(kind, number)
    found = [*_content(f"mark{number}X", number, "content"), *_content(f"mark{number}R", number, "thinking")]
    if kind == "T":
        found += [Written(turn["name"], 0, (number, -1, Slot("tool_name")))]
        found += [Written(turn["tool_call_id"], 0, (number, -1, Slot("call_id")))]
    for index, call in enumerate(turn.get("tool_calls", ())):
        named = call["function"]
        found += [Written(named["name"], 0, (number, index, Slot("name")))]
        found += [Written(call["id"], 0, (number, index, Slot("id")))]
        for form in FORMS:
            text = form.text(named["arguments"])
            found.append(Written(text, text.index("mark"), (number, index, Slot("arguments", form.name))))
        for key, value in named["arguments"].items():
            found.append(Written(key, 0, (number, index, Slot("key"))))
            found.append(Written(value, 0, (number, index, Slot("value"))))
            found.append(Written(FORMS[0].text(value), 1, (number, index, Slot("value", FORMS[0].name))))
    return tuple(found)


@lru_cache(maxsize=1)
def _tool_marks() -> tuple[Written, ...]:
    """The list of tools, in every form: of whole tools, of their functions, one after another or as a list."""
    found = []
    for form in TOOL_FORMS:
        for kind, tools in (("tool", list(TOOLS)), ("function", [tool["function"] for tool in TOOLS])):
            values = [(tools, -1, f"{kind}s"), *((tool, index, kind) for index, tool in enumerate(tools))]
            for value, index, slot in values:
                text = form.text(value)
                found.append(Written(text, text.index("mark"), (-1, index, Slot(slot, form.name))))
    return tuple(found)


@lru_cache(maxsize=4096)
def _known(shape: Shape) -> dict[str, list[Written]]:
    """What may be written, by the mark that it holds first, the longest first."""
    every = [*_content("markS", -1, "system")] if shape.system else []
    every += _tool_marks() if shape.tools else ()
    for number, kind in enumerate(shape.turns):
        every += _marks_of(kind, number)
    found: dict[str, list[Written]] = {}
    for written in sorted(every, key=lambda one: len(one.text), reverse=True):
        match = _MARK.search(written.text)
        assert match is not None
        found.setdefault(match[0], []).append(written)
    return found


def cut(text: str, shape: Shape) -> list[Part]:
    """The template's own text, and the marks between."""
    known = _known(shape)
    parts: list[Part] = []
    at = position = 0
    while (match := _MARK.search(text, position)) is not None:
        position = match.end()
        for written in known.get(match[0], ()):
            start = match.start() - written.before
            if start >= at and text.startswith(written.text, start):
                parts += [text[at:start], written.mark]
                at = position = start + len(written.text)
                break
    return [part for part in (*parts, text[at:]) if part != ""]


def unknown_mark(text: str) -> str | None:
    """What is left in a text of a value that is written in a way that is not known; None if nothing is."""
    match = _MARK.search(text)
    if match is None:
        return None
    return "tools" if "T" in match[0] else "arguments of calls" if match[0][-2:-1] in "ABVW" else "a message"


def abilities_of(render: Render, arguments: Mapping[str, Any]) -> Abilities:
    """By asking."""

    def written(shape: Shape, *, generation: bool = True) -> str | None:
        text = render([shape.conversation(arguments)], generation)[0]
        return text if isinstance(text, str) else None

    def differs(shape: Shape, other: Shape, *, generation: bool = True) -> bool:
        text = written(shape, generation=generation)
        return text is not None and text != written(other, generation=generation)

    tools = differs(Shape("U", tools=True), Shape("U"))
    calls = written(Shape("UCT", tools=tools)) is not None
    many = calls and written(Shape("UDTT", tools=tools)) is not None
    thinking = differs(Shape("Ua"), Shape("UA"), generation=False) or differs(Shape("UaU"), Shape("UAU"))
    switch = False
    if "enable_thinking" not in arguments:
        switch = differs(Shape("U", think_off=True), Shape("U"))
    late = written(Shape("UASU")) is not None
    return Abilities(tools, calls, many, thinking, switch, late)


def python_values(render: Render, arguments: Mapping[str, Any]) -> bool:
    """Whether true is written as `True` where arguments are written one by one."""
    call = {"type": "function", "id": "mk001ID00", "function": {"name": "mark", "arguments": {"mark": True}}}
    turns = [turn_of("U", 0), {"role": "assistant", "content": "", "tool_calls": [call]}, turn_of("T", 2)]
    text = render([Conversation(turns, TOOLS, arguments)], True)[0]
    without = render([Conversation(turns[:1], TOOLS, arguments)], True)[0]
    return isinstance(text, str) and isinstance(without, str) and text.count("True") > without.count("True")


def shapes_of(abilities: Abilities) -> Iterator[Shape]:
    """Every kind of conversation that a person may have, up to LONGEST turns."""
    follow = {"": "U", "U": "A", "A": "US" if abilities.late_system else "U", "S": "U", "T": "A"}
    if abilities.calls:
        follow |= {"U": "ACDE" if abilities.many_calls else "AC", "T": "AC"}
    seen: set[str] = set()
    longer = ("UCTAUDTT", "UDTTAUCTA", "UETTTAUDTT") if abilities.many_calls else ()
    for turns in (*_grown("", follow), *longer):
        for variant in _variants(turns, abilities):
            if variant in seen:
                continue
            seen.add(variant)
            for system, tools, off in itertools.product((False, True), repeat=3):
                if (tools and not abilities.tools) or (off and not (abilities.think_switch and len(turns) < 4)):
                    continue
                if len(turns) < 6 or not abilities.tools or system != tools:
                    yield Shape(variant, system, tools, off)


def _grown(turns: str, follow: Mapping[str, str]) -> Iterator[str]:
    if turns:
        yield turns
    for kind in follow[turns[-1:]]:
        grown = turns + {"C": "CT", "D": "DTT", "E": "ETTT"}.get(kind, kind)
        several, calling = sum(map(grown.count, "DE")), sum(map(grown.count, "CDE"))
        if len(grown) <= LONGEST and grown.count("S") <= 1 and several <= 1 and ("S" not in grown or calling <= 1):
            yield from _grown(grown, follow)


def _variants(turns: str, abilities: Abilities) -> Iterator[str]:
    """With thoughts nowhere, everywhere, in the last answer; with text beside calls and without."""
    yield turns
    yield turns.replace("C", "c").replace("D", "d").replace("E", "e")
    if abilities.thinking:
        yield turns.replace("A", "a")
        yield turns.replace("A", "a").replace("C", "k")
        yield turns.replace("A", "a").replace("C", "K")
        head, answer, tail = turns.rpartition("A")
        yield head + answer.lower() + tail
