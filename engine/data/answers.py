"""A trained answer between its prompt and its end, both as the template writes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engine.data.conversation import Conversation

THINK, THOUGHT = "<think>", "</think>"
_ASKED_LAST = 16
"""Characters of a prompt that an answer does not change."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A trained answer: its prompt and the conversation up to its end, both rendered; and what was handed in."""

    prompt: str
    whole: str
    given: dict[str, Any]
    before: Conversation

    @property
    def content(self) -> str:
        """What ends the answer: its text, or nothing that is known where calls follow."""
        return "" if self.given.get("tool_calls") else self.given["content"]

    @property
    def thought(self) -> str:
        """What the answer thinks first."""
        return str(self.given.get("reasoning_content") or "").strip()

    @property
    def with_other_words(self) -> Conversation:
        """The conversation up to the answer, which says something else."""
        return replace(self.before, turns=[*self.before.turns, other_words(self.given)])


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer with where it stands in its rendering, and whether a mark ends it."""

    turn: Turn
    start: int
    end: int
    closed: bool

    @property
    def text(self) -> str:
        """The conversation up to the end of the answer."""
        return self.turn.whole[: self.end]

    @property
    def is_rich(self) -> bool:
        """Whether it has more than text."""
        return len(self.turn.given) > 2


def behind_think(turn: Turn) -> Turn | None:
    """The answer behind the think mark that its prompt ends with, where the training text has it otherwise.

    Behind an open mark stands the thought, closed at once where there is none; behind a closed block no thought at all.
    None where prompt and text agree, or where the prompt ends with no such mark.
    """
    prompt = turn.prompt.rstrip()
    if turn.whole.startswith(turn.prompt) or not prompt.endswith((THINK, THOUGHT)):
        return None
    header = turn.prompt[: prompt.rfind(THINK)]
    thought, content = turn.thought, turn.given["content"].strip()
    if content.startswith(THINK) and THOUGHT in content:
        thought, _, content = content.removeprefix(THINK).partition(THOUGHT)
        thought, content = thought.strip(), content.strip()
    if not turn.whole.startswith(header):
        return None
    closed = turn.whole.find(THOUGHT, len(header))
    behind = len(header) if closed < 0 else closed + len(THOUGHT)
    begin = turn.whole.find(content, behind) if content else -1
    if begin < 0 and content:
        # The answer itself may speak of the mark.
        begin = turn.whole.find(content, len(header))
    rest = turn.whole[begin:] if begin >= 0 else turn.whole[behind:].lstrip()
    given = turn.given | {"content": content} | {"reasoning_content": thought}
    block = f"{thought}\n{THOUGHT}\n\n" if prompt.endswith(THINK) else ""
    return replace(turn, whole=f"{turn.prompt}{block}{rest}", given=given)


def behind_prompt(turn: Turn, base: str, otherwise: str) -> Turn | None:
    """The answer behind the prompt of generation, where the template changes what stands before an answer.

    `base`: the prompt without the start of an answer; `otherwise`: the conversation with other words in the answer.
    None where the answer cannot be told from what stands before it.
    """
    header = turn.prompt.removeprefix(base)
    same = shared_length(turn.whole, otherwise)
    last = base[-_ASKED_LAST:]
    asked = turn.whole.rfind(last, 0, same)
    if asked < 0 or not header.strip() or not turn.prompt.startswith(base):
        return None
    # An earlier answer may have the same header: this one stands behind what is asked last.
    at = turn.whole.rfind(header, asked + len(last), same)
    return None if at < 0 else replace(turn, whole=turn.prompt + turn.whole[at + len(header) :])


def other_words(given: dict[str, Any]) -> dict[str, Any]:
    """The answer with other words in all that it says."""
    changed = {key: "qw other words" for key in ("content", "reasoning_content") if given.get(key)}
    calls = [{**call, "function": {**call["function"], "name": "qw_other"}} for call in given.get("tool_calls") or ()]
    return given | changed | ({"tool_calls": calls} if calls else {})


def shared_length(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    shorter = min(len(one), len(other))
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), shorter)
