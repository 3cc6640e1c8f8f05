"""Rows that are already written with a chat template: their marks are tokens, and no template comes on top.

A row counts as written when it begins with a role's header of a known family, whose marks are special tokens of this
tokenizer, and holds an answer's header. A row that holds headers elsewhere is refused: nobody can tell marks from text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.data.examples import Message, RowProblem
from engine.data.marks import Marks

MarksAs = Literal["auto", "text", "tokens"]
WRITTEN = "rows are already written with a chat template: their marks are tokens, and nothing is written around them"
OTHER_FAMILY = "rows are written with other marks than this template, with which chat and evaluation ask"
ALREADY, MARKS_INSIDE = "written with a chat template already", "marks of a chat template in the text"
_REMEDY = 'give plain turns, or set data.marks = "tokens" (they are marks) or "text" (they are letters)'


@dataclass(frozen=True, slots=True)
class Family:
    """Role headers of a family of templates."""

    name: str
    header: re.Pattern[str]
    answer: re.Pattern[str]
    system_first: bool = False
    """A system message without a header may stand in front."""


def _family(name: str, form: str, asked: str, answers: str, system_first: bool = False) -> Family:
    header, answer = (form.replace("ROLE", f"(?:{roles})") for roles in (f"{asked}|{answers}", answers))
    return Family(name, re.compile(header), re.compile(answer), system_first)


FAMILIES = (
    _family("phi4", r"<\|im_start\|>ROLE<\|im_sep\|>\n?", "system|user|tool", "assistant"),
    _family("chatml", r"<\|im_start\|>ROLE\n?", "system|user|tool", "assistant"),
    _family("llama3", r"<\|start_header_id\|>ROLE<\|end_header_id\|>\n{0,2}", "system|user|tool|ipython", "assistant"),
    _family("gemma", r"<start_of_turn>ROLE\n?", "system|user", "model"),
    _family("gemma4", r"<\|turn>ROLE\n?", "system|user", "model"),
    _family("granite", r"<\|start_of_role\|>ROLE<\|end_of_role\|>", "system|user|tools", "assistant"),
    _family("gpt-oss", r"<\|start\|>ROLE", "system|developer|user", "assistant"),
    _family("phi3", r"<\|ROLE\|>\n?", "system|user|tool|observation", "assistant"),
    _family("deepseek", r"<｜ROLE｜>", "User", "Assistant", system_first=True),
    _family("mistral", r"\[(?:/?ROLE)\] ?", "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS", "/INST"),
    _family(
        "command-r", r"<\|START_OF_TURN_TOKEN\|><\|ROLE\|>", "SYSTEM_TOKEN|USER_TOKEN", "CHATBOT_TOKEN"
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Writing:
    """Finds rows that are written already, for one tokenizer. `bos`: its begin-of-text token, or ''."""

    marks: Marks
    bos: str
    marks_as: MarksAs = "auto"

    def of_text(self, text: str) -> Family | None:
        """The family that a plain text is written in. Raises RowProblem for headers that stand elsewhere."""
        family, begins = self._family_of(text)
        if family is None or self.marks_as != "auto":
            return family if self.marks_as == "tokens" else None
        if begins and family.answer.search(text):
            return family
        if begins or family.answer.search(text):
            raise RowProblem(MARKS_INSIDE, f"{family.name} headers; {_REMEDY}")
        return None

    def of_prompt(self, messages: Sequence[Message]) -> Family | None:
        """The family that a question is written in, up to the header of its answer. Raises RowProblem as `of_text`."""
        if self.marks_as != "auto":
            return None
        found = [(message, *self._family_of(message.content)) for message in messages]
        written = [(message, family) for message, family, begins in found if family is not None and begins]
        if not written:
            return None
        message, family = written[0]
        plain = [one.role for one in messages] == ["user", "assistant"] and message is messages[0]
        if plain and _ends_with(family.answer, message.content):
            return family
        detail = f"a {message.role} message begins with {family.name} marks and would be written twice; {_REMEDY}"
        raise RowProblem(ALREADY, detail)

    def is_written(self, messages: Sequence[Message]) -> bool:
        """Whether these are a written question with its answer; a doubtful row is not."""
        try:
            return self.of_prompt(messages) is not None
        except RowProblem:
            return False

    def _family_of(self, text: str) -> tuple[Family | None, bool]:
        """The family whose headers the text has, and whether it begins with one."""
        if not self.marks.special.search(text):
            return None, False
        for family in FAMILIES:
            first = family.header.search(text)
            if first and self.marks.special.search(first[0]):
                # A begin-of-text token may stand in front; that of some models is the first mark of a header.
                before = text[: first.start()].strip()
                begins = not self.marks.special.sub("", before).strip()
                return family, begins or (family.system_first and self.marks.special.match(before) is not None)
        return None, False


def _ends_with(pattern: re.Pattern[str], text: str) -> bool:
    last = [*pattern.finditer(text)][-1:]
    return bool(last) and not text[last[0].end() :].strip()


def answers_in(text: str, response: str, instruction: str | re.Pattern[str] | None) -> list[tuple[int, int]]:
    """(start, end) behind each response mark, up to the next instruction mark or the end of the text."""
    found = []
    position = text.find(response)
    pattern = re.compile(re.escape(instruction)) if isinstance(instruction, str) else instruction
    while position >= 0:
        start = position + len(response)
        stop = pattern.search(text, start) if pattern else None
        end = stop.start() if stop else len(text)
        found.append((start, end))
        position = text.find(response, end)
    return found
