"""Conversations as the token ids that a model is asked with: the same text, marks and tokens that training showed."""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.chat import ChatTemplate, Tokenizer, bos_text, render
from engine.data.conversation import Conversation, conversation_of
from engine.data.examples import Example, RowProblem
from engine.data.marks import marks_of
from engine.data.rendered import Rendered
from engine.data.tokens import backend_of, tokenize
from engine.data.written import Writing


def tokens_of_prompts(
    tokenizer: Tokenizer, template: ChatTemplate, examples: Sequence[Example]
) -> list[list[int] | RowProblem]:
    """Token ids of what stands before each example's last answer; a prompt that is written already stands as it is."""
    writing = Writing(marks_of(tokenizer, template.marks), str(tokenizer.bos_token or ""), template.marks_as)
    asked = [conversation_of(example, example.messages[:-1]) for example in examples]
    found = tokens_of_conversations(tokenizer, template, asked)
    for number, example in enumerate(examples):
        if example.kind != "text" and writing.is_written(example.messages):
            found[number] = tokens_of_text(tokenizer, example.messages[0].content)
    return found


def tokens_of_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text whose marks are tokens, with the begin-of-text token where the tokenizer puts one."""
    begin = bos_text(tokenizer)
    whole = text if text.startswith(begin) else begin + text
    ids: list[int] = tokenizer(whole, add_special_tokens=False).input_ids
    return ids


def tokens_of_conversations(
    tokenizer: Tokenizer, template: ChatTemplate, conversations: Sequence[Conversation], *, generation: bool = True
) -> list[list[int] | RowProblem]:
    """Token ids of each conversation; a RowProblem where the template refuses it or would drop a part of it.

    `generation` appends the start of an answer. Special tokens that a person types are letters, as in training.
    """
    marks = marks_of(tokenizer, template.marks)
    asked = [Conversation([*map(dict, one.turns)], one.tools, one.arguments) for one in conversations]
    if template.marks_as != "tokens":
        asked = [marks.guard(one)[0] for one in asked]
    texts = render(tokenizer, template, asked, generation=generation)
    documents = [_document(*marks.bare(text)[:2]) for text in texts if isinstance(text, str)]
    found = iter(tokenize(backend_of(tokenizer), documents))
    return [text if isinstance(text, RowProblem) else next(found)[0].tolist() for text in texts]


def _document(text: str, plain: list[tuple[int, int]]) -> Rendered:
    return Rendered(text, (), tuple(plain))
