"""Whether a Go template writes what the chat template writes: compared on random conversations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.export.ollama.conversations import random_conversation
from engine.export.ollama.go_parse import GoError, GoTemplate, parse
from engine.export.ollama.go_run import execute
from engine.export.ollama.go_write import go_template
from engine.export.ollama.hints import calls_are_json
from engine.export.ollama.learn import rule_of
from engine.export.ollama.observe import END, Seen, observed
from engine.export.ollama.pieces import Inexpressible, common
from engine.export.ollama.probe import Abilities, Render, abilities_of, python_values
from engine.export.ollama.values import values_of

COMPARED = 200
"""Conversations on which a Go template is compared before it is written."""
_TRIED = 10 * COMPARED
"""Conversations that are made until so many are found that the chat template takes."""
LONGEST_S = 90.0
"""Seconds that looking for a template may take; the plainest one may take as long again."""


class TooLong(Exception):
    """Looking for a template took longer than it may."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A conversation that the two templates write differently."""

    conversation: Conversation
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class Proof:
    """How many conversations were compared, and how many came out equal."""

    compared: int = 0
    equal: int = 0
    shown: Difference | None = None
    """The shortest one that differs."""

    @property
    def holds(self) -> bool:
        """Whether all were equal, and there were any."""
        return 0 < self.compared == self.equal


@dataclass(frozen=True, slots=True)
class Derived:
    """A Go template with its proof. `text` is None where there is none that holds.

    `covers` are the abilities that it was proved with, `lost` those of the chat template that it has not, with the
    reason in `why` and a conversation that differs in `shown`.
    """

    text: str | None
    proof: Proof = Proof()
    covers: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    why: str = ""
    reads_calls: bool = True
    """Whether Ollama finds the calls in a model's answers: it reads JSON alone."""
    shown: Difference | None = field(default=None, repr=False)


def derive(render: Render, arguments: Mapping[str, Any], own: Sequence[Conversation] = ()) -> Derived:
    """The Go template that writes most of what the chat template writes, and nothing otherwise.

    `own` are conversations to compare on beside the random ones. Thoughts and tools are left out, one after the other,
    where a Go template cannot write them, and all of them where looking takes longer than LONGEST_S.
    """
    every = abilities_of(render, arguments)
    why, shown = "", None
    toolless = hurried = False
    tried = _fewer(every)
    clock = _Clock(render)
    for abilities in tried:
        if (toolless and (abilities.tools or abilities.calls)) or (hurried and abilities != tried[-1]):
            continue
        lost = [name for name in _names(every) if name not in _names(abilities)]
        within = [one for one in own if not _needed(one).intersection(lost)]
        try:
            text, reads_calls = _learnt(clock.render, arguments, abilities)
            proof = compare(clock.render, arguments, text, abilities, within, clock.check)
        except Inexpressible as reason:
            toolless = toolless or reason.of_tools
            why, shown = why or str(reason), shown or _example(render, arguments, abilities)
            continue
        except TooLong:
            hurried, clock = True, _Clock(render)
            why = why or f"looking for it took more than {LONGEST_S:.0f} seconds"
            continue
        if proof.holds:
            return Derived(text, proof, _names(abilities), tuple(lost), why, reads_calls, shown)
        why = why or f"only {proof.equal} of {proof.compared} conversations come out equal"
        shown = shown or proof.shown
    return Derived(None, Proof(), (), _names(every), why, shown=shown)


class _Clock:
    """Raises TooLong where a template is looked for longer than it may be."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._until = time.monotonic() + LONGEST_S

    def check(self) -> None:
        """Raise TooLong when the time is over."""
        if time.monotonic() > self._until:
            raise TooLong

    def render(self, conversations: Sequence[Conversation], generation: bool) -> list[str | RowProblem]:
        """As the chat template writes them."""
        self.check()
        return self._render(conversations, generation)


def _example(render: Render, arguments: Mapping[str, Any], abilities: Abilities) -> Difference | None:
    """The shortest of some random conversations, with what the chat template writes for it."""
    made = [random_conversation(seed, abilities) for seed in range(20)]
    asked = [pair for pair in made if pair[0].tools or not abilities.tools] or made
    written = sorted(_rendered(render, arguments, asked), key=lambda one: len(one[2]))
    return Difference(written[0][0], written[0][2], "") if written else None


def _fewer(abilities: Abilities) -> list[Abilities]:
    """All of them, then less and less: each once."""
    tried = [abilities]
    for left_out in (_LATE, _SEVERAL, _THOUGHTS, _SEVERAL | _THOUGHTS, _TOOLS, _TOOLS | _THOUGHTS):
        tried += [replace(abilities, **left_out), replace(abilities, **left_out | _LATE)]
    return list(dict.fromkeys(tried))


_LATE = {"late_system": False}
_SEVERAL = {"many_calls": False}
_THOUGHTS = {"thinking": False, "think_switch": False}
_TOOLS = {"tools": False, "calls": False, "many_calls": False}


def _names(abilities: Abilities) -> tuple[str, ...]:
    told = {
        "tools": abilities.tools,
        "tool calls": abilities.calls,
        "several calls at once": abilities.many_calls,
        "thoughts": abilities.thinking or abilities.think_switch,
        "later system messages": abilities.late_system,
    }
    return tuple(name for name, is_there in told.items() if is_there)


def _needed(conversation: Conversation) -> set[str]:
    """The names of the abilities that a conversation calls for."""
    turns = conversation.turns
    calls = max((len(turn.get("tool_calls") or ()) for turn in turns), default=0)
    found = {
        "tools": bool(conversation.tools),
        "tool calls": calls > 0 or any(turn["role"] == "tool" for turn in turns),
        "several calls at once": calls > 1,
        "thoughts": any(turn.get("reasoning_content") for turn in turns),
        "later system messages": any(turn["role"] == "system" for turn in turns[1:]),
    }
    return {name for name, is_needed in found.items() if is_needed}


def _learnt(render: Render, arguments: Mapping[str, Any], abilities: Abilities) -> tuple[str, bool]:
    """The template, and whether Ollama finds calls of its form in answers. Raises Inexpressible."""
    values = "python" if abilities.calls and python_values(render, arguments) else "raw"
    try:
        return _ruled(observed(render, arguments, abilities), values)
    except Inexpressible as reason:
        if reason.of_tools:
            raise
        # What begins a conversation may depend on its first message.
        return _ruled(observed(render, arguments, abilities, begins_apart=False), values)


def _ruled(seen: Sequence[Seen], values: str) -> tuple[str, bool]:
    parts: dict[str, list[Seen]] = {"start": [], "turn": [], END: []}
    for one in {(*one.facts.items(), one.pieces): one for one in seen}.values():
        role = str(one.facts["role"])
        parts[role if role in parts else "turn"].append(one)
    start, turn, end = (rule_of(part) if part else () for part in parts.values())
    return go_template(start, turn, end, values), calls_are_json(turn)


def compare(
    render: Render,
    arguments: Mapping[str, Any],
    text: str,
    abilities: Abilities,
    own: Sequence[Conversation] = (),
    check: Callable[[], None] = lambda: None,
) -> Proof:
    """On COMPARED random conversations that the chat template takes, and on `own`. `check` may end it."""
    tree = parse(text)
    proof = Proof()
    for conversation, think, wanted in _asked(render, arguments, abilities, own):
        check()
        found = _executed(tree, conversation, think)
        same = found == wanted
        shown = proof.shown if same else _shorter(proof.shown, Difference(conversation, wanted, found))
        proof = Proof(proof.compared + 1, proof.equal + same, shown)
    return proof


def _shorter(one: Difference | None, other: Difference) -> Difference:
    return other if one is None or len(other.wanted) < len(one.wanted) else one


def _executed(tree: GoTemplate, conversation: Conversation, think: bool | None) -> str:
    try:
        return execute(tree, values_of(conversation, think))
    except GoError as error:
        return f"[{error}]"


def _asked(
    render: Render, arguments: Mapping[str, Any], abilities: Abilities, own: Sequence[Conversation]
) -> list[tuple[Conversation, bool | None, str]]:
    found: list[tuple[Conversation, bool | None, str]] = _rendered(render, arguments, [(one, None) for one in own])
    most = COMPARED + len(found)
    for first in range(0, _TRIED, COMPARED):
        made = [random_conversation(seed, abilities) for seed in range(first, first + COMPARED)]
        found += _rendered(render, arguments, made)
        if len(found) >= most:
            break
    return found[:most]


def _rendered(
    render: Render, arguments: Mapping[str, Any], asked: Sequence[tuple[Conversation, bool | None]]
) -> list[tuple[Conversation, bool | None, str]]:
    """Those that the chat template takes, each with what it writes."""
    given = [replace(one, arguments={**arguments, **one.arguments}) for one, _ in asked]
    texts: list[str | RowProblem] = render(given, True)
    return [
        (one, think, text) for one, (_, think), text in zip(given, asked, texts, strict=True) if isinstance(text, str)
    ]


def told(difference: Difference, most: int = 60) -> str:
    """The place where the two first differ, for a warning; where there is but one, what it writes."""
    wanted, found = difference.wanted, difference.found
    if not found:
        return f"it writes {wanted[: 4 * most]!r}"
    at = common(wanted, found)
    start = max(0, at - most // 2)
    return f"wanted {wanted[start : at + most]!r}, written {found[start : at + most]!r}"


def conversation_text(conversation: Conversation) -> str:
    """A conversation as one line of JSON, to try it again."""
    given = {
        "messages": list(conversation.turns),
        **({"tools": list(conversation.tools)} if conversation.tools else {}),
    }
    return json.dumps(given, ensure_ascii=False)
