"""Which characters of a rendered conversation the loss sees: the answers and the mark that ends each.

A turn's answer is what `render(messages up to it)` has beyond `render(messages before it, with the
start of an answer)`. Where a template writes earlier turns differently from the last one, each answer
becomes a document of its own, rendered as it will be at inference. `encode.py` turns the spans into
token labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.data.adapt import adapt
from engine.data.chat import ChatTemplate, Tokenizer, bos_text, reads_with, render
from engine.data.conversation import Conversation, conversation_of
from engine.data.examples import Example, RowProblem
from engine.data.marks import OPEN, marks_of
from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile

SEPARATE = "rows became one document an answer: the template writes earlier turns differently from the last"
PARTIAL = "answers begin differently in the template's training text than at generation"
ALTERED = "answers are changed by the template (trimmed inside, or thinking removed)"
UNCLOSED = "answers in mid-conversation have no end mark in this template; only the last one teaches to stop"
POISONED = "rows spell out special tokens; they are encoded as plain text"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One document of text. `spans` = trained (start, end) characters; `plain` = characters that must
    not become special tokens although they spell one."""

    text: str
    spans: tuple[tuple[int, int], ...]
    plain: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class MaskNotes:
    """What was met on the way, counted: notes for the report, and which tokens end an answer."""

    counts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Turn:
    """A trained answer: its prompt and the conversation up to its end, both rendered."""

    prompt: str
    whole: str
    content: str
    before: Conversation


def masker_of(settings: Profile, tokenizer: Tokenizer, template: ChatTemplate) -> Masker:
    """What the profile's loss sees: `data.mask`, `data.response_template`, and everything in pre-training."""
    whole = settings.data.mask == "all" or settings.train.objective == "pretrain"
    return Masker(tokenizer, template, whole=whole, response_mark=settings.data.response_template)


class Masker:
    """Renders examples with one tokenizer and template, and finds their trained spans."""

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate, *, whole: bool = False, response_mark: str | None = None
    ) -> None:
        """`whole`: prompts are learned too. `response_mark`: of plain text, only what stands behind its last one."""
        self.whole, self.response_mark = whole, response_mark
        self.tokenizer = tokenizer
        self.template = template
        self.notes = MaskNotes()
        self.bos = bos_text(tokenizer)
        added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        special = {text for text, is_special in added.items() if is_special} | set(tokenizer.all_special_tokens)
        self.end_marks = tuple(sorted(special | {text for text in added if text in template.source}, key=len))[::-1]
        marks = "|".join(map(re.escape, self.end_marks)) or "(?!)"
        self.last_mark = re.compile(marks)
        self.after_answer = re.compile(rf"\s*(?:{marks})+")
        self.marks = marks_of(tokenizer, template.marks)
        self.reads = reads_with(tokenizer, template)

    def render_examples(self, examples: Sequence[Example]) -> list[list[Rendered] | RowProblem]:
        """Documents of each example, mostly one; a RowProblem where the template refuses the example."""
        found: list[list[Turn] | RowProblem] = [[] for _ in examples]
        asked: dict[int, Conversation] = {}
        given: dict[int, Conversation] = {}
        for number, example in enumerate(examples):
            try:
                given[number], asked[number] = self._conversations(example)
            except RowProblem as problem:
                found[number] = problem
        wanted = [
            (number, index)
            for number, example in enumerate(examples)
            if example.kind == "chat" and number in asked
            for index, message in enumerate(example.messages)
            if message.train
        ]
        befores = [asked[number].upto(index) for number, index in wanted]
        prompts = render(self.tokenizer, self.template, befores, generation=True)
        wholes = render(
            self.tokenizer, self.template, [asked[number].upto(index + 1) for number, index in wanted], generation=False
        )
        for (number, index), before, prompt, whole in zip(wanted, befores, prompts, wholes, strict=True):
            answers = found[number]
            if isinstance(answers, RowProblem):
                continue
            if isinstance(prompt, RowProblem) or isinstance(whole, RowProblem):
                found[number] = prompt if isinstance(prompt, RowProblem) else whole  # type: ignore[assignment]
                continue
            turn = given[number].turns[index]
            answers.append(Turn(prompt, whole, "" if turn.get("tool_calls") else turn["content"], before))
        return [self._finish(example, answers) for example, answers in zip(examples, found, strict=True)]

    def _conversations(self, example: Example) -> tuple[Conversation, Conversation]:
        """The example with special tokens in its texts marked as mere text, and the same as the template reads it."""
        guarded, poisoned = self.marks.guard(conversation_of(example))
        self.notes.counts[POISONED] += poisoned
        return guarded, adapt(guarded, self.reads, self.notes.counts) if example.kind != "text" else guarded

    def _finish(self, example: Example, answers: list[Turn] | RowProblem) -> list[Rendered] | RowProblem:
        if isinstance(answers, RowProblem):
            return answers
        if example.kind == "text":
            return self._text_document(example)
        try:
            documents = self._documents(answers)
        except RowProblem as problem:
            return problem
        return [self._unmark(self._all_of(document) if self.whole else document) for document in documents]

    def _all_of(self, document: Rendered) -> Rendered:
        return Rendered(document.text, ((0, len(document.text)),), document.plain)

    def _text_document(self, example: Example) -> list[Rendered] | RowProblem:
        content = self.marks.guard_text(example.messages[0].content)
        text, start = self.bos + content + self._eos(), 0
        if self.response_mark is not None:
            mark = self.marks.guard_text(self.response_mark)
            start = text.rfind(mark) + len(mark)
            if start < len(mark):
                return RowProblem("no response mark", f"the text does not hold {self.response_mark[:40]!r}")
        return [self._unmark(Rendered(text, ((start, len(text)),)))]

    def _documents(self, answers: list[Turn]) -> list[Rendered]:
        starts = [self._start(turn) for turn in answers]
        ends = [self._end(turn, start) for turn, start in zip(answers, starts, strict=True)]
        for turn, start, (end, _) in zip(answers, starts, ends, strict=True):
            self.notes.counts[ALTERED] += turn.content.strip() not in turn.whole[start:end]
        last = answers[-1].whole
        if all(last.startswith(turn.whole[:end]) for turn, (end, _) in zip(answers, ends, strict=True)):
            spans = [(start, end) for start, (end, _) in zip(starts, ends, strict=True)]
            self.notes.counts[UNCLOSED] += sum(not closed for _, closed in ends[:-1])
            return [self._closed(last, spans, ends[-1][1])]
        self.notes.counts[SEPARATE] += 1
        return [
            self._closed(turn.whole, [(start, end)], closed)
            for turn, start, (end, closed) in zip(answers, starts, ends, strict=True)
        ]

    def _closed(self, text: str, spans: list[tuple[int, int]], closed: bool) -> Rendered:
        """Cut after the last answer; where the template ends it with no special token, add the EOS token."""
        start, end = spans[-1]
        text = text[:end]
        if not closed:
            text += self._eos()
            self.notes.ends[self._eos()] += 1
        return Rendered(text, (*spans[:-1], (start, len(text))))

    def _start(self, turn: Turn) -> int:
        """First character of the answer: where the prompt ends, if the rendered conversation begins with it."""
        if turn.whole.startswith(turn.prompt):
            return len(turn.prompt)
        base = render(self.tokenizer, self.template, [turn.before], generation=False)[0]
        if isinstance(base, RowProblem) or not turn.whole.startswith(base):
            detail = "the text before an answer changes when the answer is added; set data.template"
            raise RowProblem("the chat template is not consistent", detail)
        self.notes.counts[PARTIAL] += 1
        shared = next(
            (at for at, (one, other) in enumerate(zip(turn.prompt, turn.whole, strict=False)) if one != other),
            len(turn.whole),
        )
        content = turn.whole.find(turn.content.strip(), len(base))
        return min(shared, content) if content >= 0 else shared

    def _end(self, turn: Turn, start: int) -> tuple[int, bool]:
        """End of the answer with the end marks right behind it; and whether there is a mark.

        Text after the marks (a line break, another end-of-sequence token) is the template's, not the answer's.
        """
        content = turn.content.strip()
        position = turn.whole.rfind(content, start)
        while position >= 0:
            match = self.after_answer.match(turn.whole, position + len(content))
            if match:
                self.notes.ends[self.last_mark.findall(match[0])[-1]] += 1
                return match.end(), True
            position = turn.whole.rfind(content, start, position + len(content) - 1)
        end = max(start, len(turn.whole.rstrip()))
        mark = next((mark for mark in self.end_marks if turn.whole.endswith(mark, start, end)), "")
        first = turn.whole.find(content, start)
        if not mark or (first >= 0 and first + len(content) > end - len(mark)):
            return end, False
        self.notes.ends[mark] += 1
        return end, True

    def _eos(self) -> str:
        eos = self.tokenizer.eos_token
        if not eos:
            hint = "add eos_token to its tokenizer_config.json, or choose a data.template with end marks it knows"
            raise EngineError(
                "the tokenizer has no end-of-sequence token, so no answer could end", code=ExitCode.MODEL, hint=hint
            )
        return str(eos)

    def _unmark(self, document: Rendered) -> Rendered:
        """Remove the private marks again and remember what they enclosed."""
        if OPEN not in document.text and "\\udb92" not in document.text:
            return document
        text, plain, cuts = self.marks.bare(document.text)
        spans = tuple((_moved(start, cuts), _moved(end, cuts)) for start, end in document.spans)
        return Rendered(text, spans, tuple(plain))


def _moved(position: int, cuts: list[int]) -> int:
    return position - sum(cut < position for cut in cuts)
