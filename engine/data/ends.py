"""Where an answer ends in its rendering, and which special token ends it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from engine.data.marks import OPEN


@dataclass(frozen=True, slots=True)
class EndMarks:
    """Tokens that may end an answer: special ones, and added ones that the template writes; longest first."""

    marks: tuple[str, ...]
    one: re.Pattern[str]
    behind: re.Pattern[str]
    """White space and marks, right behind an answer."""

    def of_text(self, whole: str, start: int, content: str) -> tuple[int, str]:
        """End of the answer with the marks right behind its text, and the last of them; '' where there is none.

        Text after the marks (a line break, another end-of-sequence token) is the template's, not the answer's.
        """
        position = whole.rfind(content, start)
        while position >= 0:
            match = self.behind.match(whole, position + len(content))
            if match:
                return match.end(), self.one.findall(match[0])[-1]
            position = whole.rfind(content, start, position + len(content) - 1)
        end = max(start, len(whole.rstrip()))
        mark = next((mark for mark in self.marks if whole.endswith(mark, start, end)), "")
        first = whole.find(content, start)
        if first >= 0 and first + len(content) > end - len(mark):
            return end, ""
        return end, mark

    def of_calls(self, whole: str, start: int, of_call: frozenset[str]) -> tuple[int, str]:
        """The same for an answer that ends with calls; `of_call`: marks that each call is closed with."""
        last = next((found for found in reversed([*self.behind.finditer(whole, start)])), None)
        mark = self.one.findall(last[0])[-1] if last is not None else ""
        if last is None or mark in of_call or whole[: last.end()].endswith(OPEN):
            return max(start, len(whole.rstrip())), ""
        return last.end(), mark

    def next_of(self, text: str, end: int) -> int:
        """Behind the token that the next turn begins with: where no mark ends an answer, a model stops with that."""
        match = re.compile(rf"\s*({self.one.pattern})").match(text, end)
        return match.end() if match else end


def end_marks_of(tokenizer: Any, source: str) -> EndMarks:
    """The marks of one tokenizer and template."""
    added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    special = {text for text, is_special in added.items() if is_special} | set(tokenizer.all_special_tokens)
    marks = tuple(sorted(special | {text for text in added if text in source}, key=len))[::-1]
    pattern = "|".join(map(re.escape, marks)) or "(?!)"
    return EndMarks(marks, re.compile(pattern), re.compile(rf"\s*(?<!{OPEN})(?:{pattern})+"))
