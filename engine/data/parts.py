"""What an answer consists of where a template has written it: thought, text, calls; and results of tools before it.

Positions are found from the texts themselves, in the order in which models write them. Marks between two parts belong
to the earlier one: a thought ends with its closing mark, and the end mark of an answer belongs to what stands last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "calls", "thoughts", "results"]
KINDS: tuple[Kind, ...] = ("text", "calls", "thoughts", "results")


@dataclass(frozen=True, slots=True)
class Part:
    """Characters from `start` to `end` of a document, and what they are."""

    start: int
    end: int
    kind: Kind


def parts_of_answer(text: str, start: int, end: int, turn: dict[str, Any], closing: str) -> list[Part]:
    """The parts of an answer that stands from `start` to `end`. `closing`: what the template puts behind a thought."""
    thought, content = _stripped(turn.get("reasoning_content")), _stripped(turn.get("content"))
    calls = turn.get("tool_calls") or ()
    if not thought and not calls:
        return [Part(start, end, "text")]
    after_thought = _thought_end(text, start, end, thought, closing)
    at = text.find(content, after_thought, end) if content else -1
    after_text = at + len(content) if at >= 0 else after_thought
    if not calls:
        border = at if at >= 0 else after_thought
        return _kept(Part(start, border, "thoughts"), Part(border, end, "text"))
    if at < 0:
        return _kept(Part(start, after_thought, "thoughts"), Part(after_thought, end, "calls"))
    begin = at if thought else start
    return _kept(Part(start, begin, "thoughts"), Part(begin, after_text, "text"), Part(after_text, end, "calls"))


def _thought_end(text: str, start: int, end: int, thought: str, closing: str) -> int:
    at = text.find(thought, start, end) if thought else -1
    if at < 0:
        return start
    position = at + len(thought)
    for one, other in zip(text[position:end], closing, strict=False):
        if one != other:
            break
        position += 1
    return position


def _kept(*parts: Part) -> list[Part]:
    return [part for part in parts if part.start < part.end]


RESULT = "qwresultz"
"""A word that stands for any result."""


def with_words(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with RESULT in place of what each tool answered."""
    return [turn | {"content": RESULT} if turn["role"] == "tool" else turn for turn in turns]


def results_in(text: str, turns: Sequence[dict[str, Any]], worded: str) -> Iterator[Part]:
    """Where the results of tools stand; what a template changed is left out. `worded`: `with_words` as it writes them.

    A result may say what stands before it as well, such as an argument of its call: what is written around it tells.
    """
    position = 0
    for content, before in zip(_results(turns), worded.split(RESULT), strict=False):
        begin = text.find(before, position)
        if begin < 0:
            return
        position = begin + len(before)
        start = position + len(text[position:]) - len(text[position:].lstrip())
        form = next((form for form in (content, _escaped(content)) if text.startswith(form, start)), "")
        if form:
            position = start + len(form)
            yield Part(start, position, "results")


def _results(turns: Sequence[dict[str, Any]]) -> list[str]:
    return [_stripped(turn["content"]) for turn in turns if turn["role"] == "tool"]


def _escaped(content: str) -> str:
    return json.dumps(content, ensure_ascii=False)[1:-1]


def _stripped(content: str | list[dict[str, str]] | None) -> str:
    text = "".join(part["text"] for part in content) if isinstance(content, list) else content or ""
    return text.strip()
