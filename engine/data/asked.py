"""Conversations as the token ids that a model is asked with: the same text, marks and tokens that training showed."""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.chat import ChatTemplate, Tokenizer, render
from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.marks import marks_of
from engine.data.mask import Rendered
from engine.data.tokens import backend_of, tokenize


def tokens_of_conversations(
    tokenizer: Tokenizer, template: ChatTemplate, conversations: Sequence[Conversation], *, generation: bool = True
) -> list[list[int] | RowProblem]:
    """Token ids of each conversation; a RowProblem where the template refuses it or would drop a part of it.

    `generation` appends the start of an answer. Special tokens that a person types are letters, as in training.
    """
    marks = marks_of(tokenizer, template.marks)
    guarded = [marks.guard(Conversation([*map(dict, one.turns)], one.tools, one.arguments))[0] for one in conversations]
    texts = render(tokenizer, template, guarded, generation=generation)
    documents = [_document(*marks.bare(text)[:2]) for text in texts if isinstance(text, str)]
    found = iter(tokenize(backend_of(tokenizer), documents))
    return [text if isinstance(text, RowProblem) else next(found)[0].tolist() for text in texts]


def _document(text: str, plain: list[tuple[int, int]]) -> Rendered:
    return Rendered(text, (), tuple(plain))
