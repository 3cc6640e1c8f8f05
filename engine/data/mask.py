"""Which characters of a rendered conversation the loss sees: the answers and the mark that ends each.

A turn's answer is what `render(messages up to it)` has beyond `render(messages before it, with the
start of an answer)`. Where a template writes earlier turns differently from the last one, answers that belong
together become a document of their own, rendered as it will be at inference. `encode.py` turns the spans into
token labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from engine.data.adapt import NO_THOUGHTS, adapt
from engine.data.answers import Placed, Turn, behind_prompt, behind_think, shared_length
from engine.data.chat import ChatTemplate, Tokenizer, reads_with, render
from engine.data.conversation import Conversation, conversation_of
from engine.data.ends import end_marks_of
from engine.data.examples import Example, RowProblem
from engine.data.kept import check_kept
from engine.data.marks import marks_of
from engine.data.parts import KINDS, Kind, Part, parts_of_answer, results_in, with_words
from engine.data.rendered import MaskNotes, Rendered, unmarked
from engine.data.text_rows import POISONED, TextRows
from engine.profile.schema import Profile

SEPARATE = "rows became one document an answer: the template writes earlier turns differently from the last"
PARTIAL = "answers begin differently in the template's training text than at generation"
OPENED = "answers are written behind the think mark that the template opens for them, as at generation"
REBUILT = "answers are put behind the prompt of generation: the template changes what stands before them"
ALTERED = "answers are changed by the template (trimmed inside, or thinking removed)"
UNCLOSED = "answers in mid-conversation have no end mark in this template; only the last one teaches to stop"
LEARNED: tuple[Kind, ...] = ("text", "calls", "thoughts")


def masker_of(settings: Profile, tokenizer: Tokenizer, template: ChatTemplate) -> Masker:
    """What the profile's loss sees: `data.mask`, `data.learn`, `data.response_template`; all of it in pre-training."""
    data = settings.data
    whole = data.mask == "all" or settings.train.objective == "pretrain"
    marks = [_as_text(tokenizer, given) for given in (data.response_template, data.instruction_template)]
    return Masker(tokenizer, template, whole=whole, response_mark=marks[0], question_mark=marks[1], learn=data.learn)


def _as_text(tokenizer: Tokenizer, given: str | list[int] | None) -> str | None:
    return tokenizer.decode(given, skip_special_tokens=False) if isinstance(given, list) else given


class Masker:
    """Renders examples with one tokenizer and template, and finds their trained spans."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        whole: bool = False,
        response_mark: str | None = None,
        question_mark: str | None = None,
        learn: Collection[Kind] = LEARNED,
    ) -> None:
        """`whole`: prompts are learned too. `response_mark` and `question_mark`: of plain text, what stands
        between them. `learn`: the parts of a conversation that are.
        """
        self.whole = whole
        self.learn = frozenset(KINDS) & frozenset(learn)
        self.tokenizer = tokenizer
        self.template = template
        self.notes = MaskNotes()
        self.ends = end_marks_of(tokenizer, template.source)
        self.marks = marks_of(tokenizer, template.marks)
        self.reads = reads_with(tokenizer, template)
        self.texts = TextRows(
            tokenizer, template, self.marks, self.ends, self.notes, response_mark, question_mark, whole
        )

    def render_examples(self, examples: Sequence[Example]) -> list[list[Rendered] | RowProblem]:
        """Documents of each example, mostly one; a RowProblem where the template refuses the example."""
        found: list[list[Turn] | RowProblem] = [[] for _ in examples]
        asked: dict[int, Conversation] = {}
        given: dict[int, Conversation] = {}
        written: dict[int, list[Rendered] | RowProblem] = {}
        for number, example in enumerate(examples):
            try:
                document = self.texts.document(example)
                if document is not None:
                    written[number] = [document]
                    continue
                given[number], asked[number] = self._conversations(example)
            except RowProblem as problem:
                written[number] = problem
        wanted = [
            (number, index)
            for number, example in enumerate(examples)
            if number in asked
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
            answers.append(Turn(prompt, whole, given[number].turns[index], before))
        return [
            written[number] if number in written else self._finish(answers, given[number])
            for number, answers in enumerate(found)
        ]

    def _conversations(self, example: Example) -> tuple[Conversation, Conversation]:
        """The example with special tokens in its texts marked as mere text, and the same as the template reads it."""
        guarded, poisoned = conversation_of(example), False
        if self.template.marks_as != "tokens":
            guarded, poisoned = self.marks.guard(guarded)
        self.notes.counts[POISONED] += poisoned
        notes: Counter[str] = Counter()
        asked = adapt(guarded, self.reads, notes)
        # Of thoughts, the rendering itself says whether they are there (`_note_changes`).
        self.notes.counts.update({note: count for note, count in notes.items() if note != NO_THOUGHTS})
        return guarded, asked

    def _finish(self, answers: list[Turn] | RowProblem, given: Conversation) -> list[Rendered] | RowProblem:
        if isinstance(answers, RowProblem):
            return answers
        try:
            documents = self._documents(answers, given) if answers else []
        except RowProblem as problem:
            return problem
        return [unmarked(self.marks, self._all_of(document) if self.whole else document) for document in documents]

    def _all_of(self, document: Rendered) -> Rendered:
        return Rendered(document.text, ((0, len(document.text)),), document.plain, document.parts)

    def _documents(self, answers: list[Turn], given: Conversation) -> list[Rendered]:
        turns = [self._as_generated(turn) for turn in answers]
        starts = [self._start(turn) for turn in turns]
        ends = [self._end(turn, start) for turn, start in zip(turns, starts, strict=True)]
        placed = [Placed(turn, start, *end) for turn, start, end in zip(turns, starts, ends, strict=True)]
        for one in placed:
            self._note_changes(one)
        groups: list[list[Placed]] = []
        for one in placed:
            if groups and one.turn.whole.startswith(groups[-1][-1].text):
                groups[-1].append(one)
            else:
                groups.append([one])
        self.notes.counts[SEPARATE] += len(groups) > 1
        last = placed[-1].turn
        check_kept(given, len(last.before.turns), last.whole, self._write, self.notes.counts)
        return [self._document(group, given) for group in groups]

    def _write(self, conversation: Conversation) -> str | RowProblem:
        return render(self.tokenizer, self.template, [conversation], generation=False)[0]

    def _as_generated(self, turn: Turn) -> Turn:
        found = behind_think(turn)
        self.notes.counts[OPENED] += found is not None
        if found or turn.whole.startswith(turn.prompt):
            return found or turn
        base, other = self._write(turn.before), self._write(turn.with_other_words)
        if isinstance(base, RowProblem) or isinstance(other, RowProblem) or turn.whole.startswith(base):
            return turn
        found = behind_prompt(turn, base, other)
        self.notes.counts[REBUILT] += found is not None
        return found or turn

    def _note_changes(self, one: Placed) -> None:
        """Count what the template changed in an answer; a call that it dropped is a RowProblem."""
        written = one.text[one.start :]
        turn = one.turn
        self.notes.counts[ALTERED] += turn.content.strip() not in written
        self.notes.counts[NO_THOUGHTS] += turn.thought not in written
        names = Counter(call["function"]["name"] for call in turn.given.get("tool_calls") or ())
        for name, count in names.items():
            if written.count(name) < count:
                raise RowProblem("lost by the chat template", f"it does not write each call of {name[:60]}")

    def _document(self, group: list[Placed], given: Conversation) -> Rendered:
        """Answers one behind the other, cut after the last; where no special token ends that, with the EOS token."""
        last = group[-1]
        text = last.text
        group = [one if one.closed else self._ended_by_next(one, text) for one in group[:-1]] + [last]
        self.notes.counts[UNCLOSED] += sum(not one.closed for one in group[:-1])
        if not last.closed:
            text += self.texts.eos
            self.notes.ends[self.texts.eos] += 1
        borders = [(one, one.end) for one in group[:-1]] + [(last, len(text))]
        if not any(turn.keys() - {"role", "content"} for turn in last.turn.before.turns) and not last.is_rich:
            spans = tuple((one.start, end) for one, end in borders) if "text" in self.learn else ()
            return Rendered(text, spans)
        closing = self.reads().thought_closing
        parts = [
            part for one, end in borders for part in parts_of_answer(text, one.start, end, one.turn.given, closing)
        ]
        before = given.upto(len(last.turn.before.turns))
        parts = sorted([*parts, *self._results(text, before)], key=lambda part: part.start)
        spans = tuple((part.start, part.end) for part in parts if part.kind in self.learn)
        return Rendered(text, spans, parts=tuple(parts))

    def _results(self, text: str, before: Conversation) -> Iterator[Part]:
        """Where results of tools stand; a conversation without any costs no rendering."""
        if all(turn["role"] != "tool" for turn in before.turns):
            return
        worded = self._write(replace(before, turns=with_words(before.turns)))
        if isinstance(worded, str):
            yield from results_in(text, before.turns, worded)

    def _ended_by_next(self, one: Placed, text: str) -> Placed:
        end = self.ends.next_of(text, one.end)
        if end > one.end:
            self.notes.ends[self.ends.one.findall(text[one.end : end])[-1]] += 1
        return replace(one, end=end, closed=end > one.end)

    def _start(self, turn: Turn) -> int:
        """First character of the answer: where the prompt ends, if the rendered conversation begins with it."""
        if turn.whole.startswith(turn.prompt):
            return len(turn.prompt)
        base = render(self.tokenizer, self.template, [turn.before], generation=False)[0]
        if isinstance(base, RowProblem) or not turn.whole.startswith(base):
            detail = "the text before an answer changes when the answer is added; set data.template"
            raise RowProblem("the chat template is not consistent", detail)
        self.notes.counts[PARTIAL] += 1
        other = self._write(turn.with_other_words)
        # The answer itself may begin like the rest of the prompt.
        return min(shared_length(turn.whole, one) for one in (turn.prompt, other) if isinstance(one, str))

    def _end(self, turn: Turn, start: int) -> tuple[int, bool]:
        """End of the answer with the end marks right behind it; and whether there is a mark."""
        if turn.given.get("tool_calls"):
            of_call = frozenset(self.ends.one.findall(self.reads().call_closing))
            end, mark = self.ends.of_calls(turn.whole, start, of_call)
        else:
            end, mark = self.ends.of_text(turn.whole, start, turn.content.strip())
        if mark:
            self.notes.ends[mark] += 1
        return end, bool(mark)
