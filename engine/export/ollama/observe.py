"""What a chat template writes for each message of many conversations, and under which circumstances.

The text before, in and behind a message is given to that message; what starts an answer is a piece of its own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.export.ollama.compress import compressed
from engine.export.ollama.pieces import Inexpressible, Numbered, Piece, Pieces, Slot, common, joined
from engine.export.ollama.probe import (
    CALLING,
    SILENT,
    Abilities,
    Part,
    Render,
    Shape,
    cut,
    shapes_of,
    unknown_mark,
)

_ROLES = {"U": "user", "S": "system", "T": "tool"}
END = "end"
"""The role under which what starts an answer is told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One message: its circumstances, and what was written for it."""

    facts: Mapping[str, str | bool]
    pieces: Pieces


def observed(
    render: Render, arguments: Mapping[str, Any], abilities: Abilities, *, begins_apart: bool = True
) -> list[Seen]:
    """Every message of every shape, and the start of every answer. Raises Inexpressible.

    `begins_apart`: what stands before the first message is a piece of its own where it can be told from it.
    """
    shapes = list(shapes_of(abilities))
    asked = _Asked(render, shapes, arguments)
    cuts = [(shape, parts) for shape in shapes if (parts := asked.whole(shape)) is not None]
    if not cuts:
        raise Inexpressible("the template refuses every conversation")
    before = _befores(asked, cuts) if begins_apart else {}
    seen: list[Seen] = []
    for shape, parts in cuts:
        seen += _seen(asked, shape, parts, before)
    return [Seen(one.facts, pieces) for one, pieces in zip(seen, compressed([one.pieces for one in seen]), strict=True)]


class _Asked:
    """Renderings by conversation, asked for in few calls."""

    def __init__(self, render: Render, shapes: Sequence[Shape], arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._tails: dict[Shape, str] = {}
        prefixes = dict.fromkeys(
            replace(shape, turns=shape.turns[:end]) for shape in shapes for end in range(1, len(shape.turns) + 1)
        )
        self._begun = self._rendered(render, [shape for shape in shapes if shape.turns[-1] in "UTS"], True)
        self._plain = self._rendered(render, sorted(prefixes, key=_alike), False)

    def _rendered(self, render: Render, shapes: Sequence[Shape], generation: bool) -> dict[Shape, str | None]:
        ordered = sorted(shapes, key=_alike)
        texts = render([shape.conversation(self._arguments) for shape in ordered], generation)
        return {shape: text if isinstance(text, str) else None for shape, text in zip(ordered, texts, strict=True)}

    def whole(self, shape: Shape) -> list[Part] | None:
        """The conversation up to where a model goes on: behind the start of an answer, or inside the last one."""
        if shape.turns[-1] in "UTS":
            text = self._begun[shape]
            return None if text is None else cut(text, shape)
        text = self._plain[shape]
        parts = [] if text is None else cut(text, shape)
        last = [number for number, part in enumerate(parts) if not isinstance(part, str)]
        return parts[: last[-1] + 1] if last else None

    def tail(self, shape: Shape, end: int) -> str:
        """What the template writes behind the last content of the first `end` turns."""
        prefix = replace(shape, turns=shape.turns[:end])
        if prefix not in self._tails:
            self._tails[prefix] = self._tail(prefix)
        return self._tails[prefix]

    def _tail(self, prefix: Shape) -> str:
        text = self._plain[prefix]
        if text is None:
            return ""
        parts = cut(text, prefix)
        after = 0
        for number, part in enumerate(parts):
            if not isinstance(part, str) and part[0] >= 0:
                after = number + 1
        first = parts[after] if after < len(parts) else ""
        return first if isinstance(first, str) else ""


def _alike(shape: Shape) -> tuple[bool, bool, bool, str]:
    return (shape.tools, shape.think_off, shape.system, shape.turns)


def _befores(asked: _Asked, cuts: Sequence[tuple[Shape, list[Part]]]) -> dict[str, list[str]]:
    """By kind of turn: what is written before it in the middle of a conversation, the longest first."""
    found: dict[str, set[str]] = {}
    for shape, parts in cuts:
        spans = _spans(shape, parts)
        for number in range(1, len(shape.turns)):
            if spans[number] is None or spans[number - 1] is None:
                continue
            between = parts[spans[number - 1][1] : spans[number][0]]  # type: ignore[index]
            if len(between) == 1 and isinstance(between[0], str):
                text = between[0].removeprefix(asked.tail(shape, number))
                found.setdefault(shape.turns[number].upper(), set()).add(text)
    return {kind: sorted(texts, key=len, reverse=True) for kind, texts in found.items()}


def _spans(shape: Shape, parts: Sequence[Part]) -> list[tuple[int, int] | None]:
    """From the first to behind the last mark of each turn; None for a turn that is not written."""
    for part in parts:
        if isinstance(part, str) and (left := unknown_mark(part)):
            raise Inexpressible(f"it writes {left} in a way of its own", of_tools=left != "a message")
    spans: list[tuple[int, int] | None] = [None] * len(shape.turns)
    for at, part in enumerate(parts):
        if isinstance(part, str) or part[0] < 0:
            continue
        old = spans[part[0]]
        spans[part[0]] = (at if old is None else old[0], at + 1)
    ends = [span for span in spans if span is not None]
    if any(one[1] > other[0] for one, other in itertools.pairwise(ends)):
        raise Inexpressible("messages are not written in their order")
    return spans


def _seen(asked: _Asked, shape: Shape, parts: list[Part], before: Mapping[str, list[str]]) -> list[Seen]:
    spans = _spans(shape, parts)
    found: list[Seen] = []
    rest: list[Part] = []
    at = 0
    for number, span in enumerate(spans):
        if span is None:
            if number == len(spans) - 1:
                break
            found.append(Seen(_facts(shape, number), ()))
            continue
        gap = [*rest, *parts[at : span[0]]]
        if not found or all(not one.pieces for one in found):
            start, gap = _start(gap, before.get(shape.turns[number].upper(), []))
            found.insert(0, Seen(_facts(shape, -1), joined(map(_piece, start))))
        follows = parts[span[1]] if span[1] < len(parts) else ""
        own, rest = "", []
        at = span[1]
        if isinstance(follows, str) and follows:
            own = follows[: common(follows, asked.tail(shape, number + 1))]
            rest, at = [follows[len(own) :]], at + 1
        found.append(Seen(_facts(shape, number), _pieces(shape, number, [*gap, *parts[span[0] : span[1]], own])))
    ending = [*rest, *parts[at:]]
    found.append(Seen(_facts(shape, len(shape.turns)), joined(map(_piece, ending))))
    return found


def _start(gap: list[Part], before: Sequence[str]) -> tuple[list[Part], list[Part]]:
    """What begins the conversation, and what is written before its first turn as before later ones."""
    last = gap[-1] if gap else ""
    for text in before:
        if isinstance(last, str) and last.endswith(text):
            return [*gap[:-1], last[: len(last) - len(text)]], [text]
    return [], gap


def _piece(part: Part) -> Piece:
    return part if isinstance(part, str) else part[2]


def _pieces(shape: Shape, number: int, parts: list[Part]) -> Pieces:
    """Of one message; its role's name is a slot, so that roles that differ in nothing else are one rule."""
    role = _role(shape.turns[number])
    made: list[Piece] = []
    for part in parts:
        if isinstance(part, str):
            for index, text in enumerate(re.split(rf"(?<![\w▁]){role}(?![\w▁])", part)):
                made += [Slot("role"), text] if index else [text]
        elif part[0] >= 0 <= part[1]:
            made.append(Numbered(part[1], part[2]))
        else:
            made.append(part[2])
    return joined(made)


def _role(kind: str) -> str:
    return _ROLES.get(kind, "assistant")


def _facts(shape: Shape, number: int) -> dict[str, str | bool]:
    """Circumstances of a turn; -1 = the beginning, behind the last = the start of an answer."""
    turns = shape.turns
    inside = 0 <= number < len(turns)
    kind = turns[number] if inside else ""
    last_user = turns.rfind("U")
    previous = turns[number - 1] if 0 < number <= len(turns) else ""
    return {
        "role": ("start" if number < 0 else END) if not inside else _role(kind),
        "calls": bool(kind) and kind in CALLING,
        "previous": _role(previous) if previous else "",
        "last": number == len(turns) - 1,
        "next": _role(turns[number + 1]) if inside and number + 1 < len(turns) else "",
        "content": not kind or kind not in SILENT,
        "thinking": bool(kind) and kind in "akK",
        "previous_calls": bool(previous) and previous in CALLING,
        "next_calls": inside and number + 1 < len(turns) and turns[number + 1] in CALLING,
        "system": shape.system,
        "tools": shape.tools,
        "last_user": inside and number == last_user,
        "after_user": inside and number > last_user,
        "later_user": inside and "U" in turns[:number],
        "later_call": inside and any(kind in CALLING for kind in turns[:number]),
        "later_result": inside and "T" in turns[:number],
        "think_off": shape.think_off,
    }
