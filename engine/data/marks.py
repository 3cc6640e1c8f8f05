"""Special tokens that data merely spell out stay text: they are enclosed while a template renders.

Tokens that the profile adds are tokens wherever text spells them, as plain transformers, chat and llama.cpp read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.data.conversation import Conversation

OPEN, CLOSE = "\U000f4a1e", "\U000f4a1f"
"""Private-use characters around special tokens that data spell out, while a template renders."""
_ESCAPED_OPEN, _ESCAPED_CLOSE = r"\\udb92\\ude1e", r"\\udb92\\ude1f"
"""The same as a template writes them that escapes its JSON."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The special tokens of one tokenizer that text cannot make."""

    special: re.Pattern[str]
    enclosed: re.Pattern[str]

    def guard_text(self, text: str) -> str:
        """The text with each special token that it spells enclosed."""
        return self.special.sub(f"{OPEN}\\g<0>{CLOSE}", text)

    def guard(self, conversation: Conversation) -> tuple[Conversation, bool]:
        """The conversation with what it spells enclosed, and whether it spells any."""
        changed = False
        for turn in conversation.turns:
            if _is_plain(turn):
                content = turn["content"]
                turn["content"] = self.guard_text(content)
                changed = changed or turn["content"] != content
        rich = conversation.tools or any(len(turn) > 2 for turn in conversation.turns)
        if not rich:
            return conversation, changed
        turns = [turn if _is_plain(turn) else self._inside(turn) for turn in conversation.turns]
        guarded = replace(conversation, turns=turns, tools=self._inside(conversation.tools))
        return guarded, changed or guarded != conversation

    def _inside(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.guard_text(value)
        if isinstance(value, Mapping):
            return {self._inside(key): self._inside(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._inside(item) for item in value]
        return value

    def bare(self, text: str) -> tuple[str, list[tuple[int, int]], list[int]]:
        """The text without enclosures, the (start, end) of what they enclosed, and where each character was cut."""
        pieces: list[str] = []
        plain: list[tuple[int, int]] = []
        cuts: list[int] = []
        position = length = 0
        for match in self.enclosed.finditer(text):
            pieces += [text[position : match.start()], match[1]]
            length += match.start() - position
            plain.append((length, length + len(match[1])))
            length += len(match[1])
            cuts += [*range(match.start(), match.start(1)), *range(match.end(1), match.end())]
            position = match.end()
        return "".join([*pieces, text[position:]]), plain, cuts


def _is_plain(turn: Mapping[str, Any]) -> bool:
    return len(turn) == 2 and isinstance(turn["content"], str)


def marks_of(tokenizer: Any, own: frozenset[str]) -> Marks:
    """Every special token of the tokenizer but the `own` ones that the profile added."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special = (added | set(tokenizer.all_special_tokens)) - own
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)"
    opened, closed = f"(?:{OPEN}|{_ESCAPED_OPEN})", f"(?:{CLOSE}|{_ESCAPED_CLOSE})"
    return Marks(re.compile(pattern), re.compile(f"{opened}({pattern}){closed}"))
