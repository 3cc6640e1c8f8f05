"""Whether what a row asks comes back in its rendering: a template may drop a turn without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from engine.data.conversation import Conversation
from engine.data.examples import RowProblem

CHANGED = "rows have prompts that the template changes (trimmed inside, or escaped)"
_WORD = "qwkeptz"

Write = Callable[[Conversation], str | RowProblem]


def check_kept(given: Conversation, count: int, text: str, write: Write, notes: Counter[str]) -> None:
    """Raise RowProblem for a turn before the `count`th that the text lacks; changed ones are counted in `notes`.

    Only a turn that does not stand there as it is costs a rendering: with a word of its own in its place.
    """
    for at, turn in enumerate(given.turns[:count]):
        content = (turn["content"] or "").strip()
        if turn["role"] == "assistant" or not content or content in text:
            continue
        turns = [*given.turns[: count + 1]]
        turns[at] = turn | {"content": _WORD}
        tried = write(Conversation(turns, given.tools, given.arguments))
        if isinstance(tried, str) and _WORD not in tried:
            raise RowProblem("lost by the chat template", f"it does not write message {at + 1} ({turn['role']})")
        notes[CHANGED] += 1
