"""Rows that no template renders: plain texts, and rows that are written with a chat template already.

Of a text the loss sees everything, or the answers behind response marks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from engine.data.chat import ChatTemplate, Tokenizer, bos_text, render
from engine.data.conversation import Conversation
from engine.data.ends import EndMarks
from engine.data.examples import Example, Message, RowProblem
from engine.data.marks import Marks
from engine.data.rendered import MaskNotes, Rendered, unmarked
from engine.data.written import OTHER_FAMILY, WRITTEN, Family, Writing, answers_in
from engine.errors import EngineError, ExitCode

POISONED = (
    "rows spell out special tokens; they are letters to the model, as chat reads what is typed"
    ' (data.marks = "tokens" makes them tokens)'
)


class TextRows:
    """Documents of text rows with one tokenizer and template."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        marks: Marks,
        ends: EndMarks,
        notes: MaskNotes,
        response_mark: str | None,
        question_mark: str | None,
        whole: bool,
    ) -> None:
        """Of plain text, only what stands behind the last `response_mark` is learned; behind each one up to
        `question_mark`, where there is one. `whole`: everything is.
        """
        self.tokenizer, self.template = tokenizer, template
        self.marks, self.ends, self.notes = marks, ends, notes
        self.response_mark, self.question_mark, self.whole = response_mark, question_mark, whole
        self.bos = bos_text(tokenizer)
        self.writing = Writing(marks, str(tokenizer.bos_token or ""), template.marks_as)

    def document(self, example: Example) -> Rendered | None:
        """The document of a text row, or of a prompt that is written already with its answer; None for others.

        Raises RowProblem for a row whose marks could be tokens or text, and for one without the response mark.
        """
        if example.kind == "text":
            return self._text(example.messages[0].content)
        if not any(self.marks.special.search(message.content) for message in example.messages):
            return None
        family = self.writing.of_prompt(example.messages)
        return None if family is None else self._pair(example.messages, family)

    @functools.cached_property
    def eos(self) -> str:
        """The end-of-sequence token. Raises EngineError(MODEL) where there is none."""
        eos = self.tokenizer.eos_token
        if not eos:
            hint = "add eos_token to its tokenizer_config.json, or choose a data.template with end marks it knows"
            raise EngineError(
                "the tokenizer has no end-of-sequence token, so no answer could end", code=ExitCode.MODEL, hint=hint
            )
        return str(eos)

    def _text(self, content: str) -> Rendered:
        family = self.writing.of_text(content)
        if family is not None or self.template.marks_as == "tokens":
            return self._written(content, family)
        content = content.removeprefix(self.bos)
        # Many scripts put the end-of-sequence token behind each text themselves.
        bare = content.rstrip(" \n")
        content = bare.removesuffix(self.eos) if bare.endswith(self.eos) else content
        self.notes.counts[POISONED] += self.marks.special.search(content) is not None
        text = self.bos + self.marks.guard_text(content) + self.eos
        mark, question = map(self._guarded, (self.response_mark, self.question_mark))
        return unmarked(self.marks, Rendered(text, tuple(self._answers(text, mark, question))))

    def _guarded(self, mark: str | None) -> str | None:
        return None if mark is None else self.marks.guard_text(mark)

    def _written(self, content: str, family: Family | None) -> Rendered:
        """A text whose marks are tokens: no begin or end is added where it has one."""
        text, _ = self._closed(content, family)
        question = self.question_mark or (family.header if family is not None else None)
        spans = self._answers(text, self.response_mark, question)
        return Rendered(text, tuple(self._until_mark(text, *span) for span in spans))

    def _pair(self, messages: Sequence[Message], family: Family) -> Rendered:
        """A written prompt with its answer; the loss sees the answer."""
        prompt, answer = messages[0].content, messages[-1].content
        text, before = self._closed(prompt + answer, family)
        start = 0 if self.whole else before + len(prompt)
        return Rendered(text, ((start, len(text)),))

    def _closed(self, content: str, family: Family | None) -> tuple[str, int]:
        """The text with one begin and one end of text; and how many characters were put before it."""
        self.notes.counts[WRITTEN] += 1
        if family is not None:
            self.notes.counts[OTHER_FAMILY] += family.header.search(self._asked_alike) is None
        before = "" if content.startswith(self.bos) else self.bos
        text = before + content.rstrip(" \n")
        mark = next((mark for mark in self.ends.marks if text.endswith(mark)), "")
        self.notes.ends[mark or self.eos] += 1
        return text + ("" if mark else self.eos), len(before)

    @functools.cached_property
    def _asked_alike(self) -> str:
        """What the template writes around a question: to see whether rows are written alike."""
        asked = Conversation([{"role": "user", "content": "x"}])
        text = render(self.tokenizer, self.template, [asked], generation=True)[0]
        return text if isinstance(text, str) else ""

    def _answers(self, text: str, mark: str | None, question: str | re.Pattern[str] | None) -> list[tuple[int, int]]:
        """What of a text is learned: all of it, or what stands behind the response mark."""
        if mark is None or self.whole:
            return [(0, len(text))]
        last = text.rfind(mark)
        if last < 0:
            raise RowProblem("no response mark", f"the text does not hold {str(self.response_mark)[:40]!r}")
        found = [(last + len(mark), len(text))] if question is None else answers_in(text, mark, question)
        if not any(self.ends.one.sub("", text[start:end]).strip() for start, end in found):
            raise RowProblem("missing answer", f"nothing stands behind {str(self.response_mark)[:40]!r}")
        return found

    def _until_mark(self, text: str, start: int, end: int) -> tuple[int, int]:
        """Without the white space behind the mark that ends an answer."""
        bare = start + len(text[start:end].rstrip())
        return (start, bare) if any(text.endswith(mark, start, bare) for mark in self.ends.marks) else (start, end)
