"""Rows that compare or judge answers: preference pairs (DPO, ORPO) and single answers with a label (KTO).

`convert.py` reads them with what is here; `flat` makes of each row the conversations that are encoded, whose
documents `paired` puts together again. Not here: any loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.data.examples import Example, Message, RowProblem

if TYPE_CHECKING:
    from engine.data.encode import Document

PADDING, PLAIN, CHOSEN, REJECTED, DESIRED, UNDESIRED, MISMATCHED = range(-1, 6)
"""What a document is to its loss. `MISMATCHED`: a prompt with another row's answer, for KTO's reference point."""
NEEDED = {"dpo": "preference", "orpo": "preference", "reward": "preference", "kto": "judged"}
"""Objective -> format of its rows."""
_TRUE, _FALSE = ("true", "1", "1.0", "yes", "good", "desirable"), ("false", "0", "0.0", "no", "bad", "undesirable")


def label_of(value: Any, column: str) -> bool:
    """A judgement as true or false. Raises RowProblem."""
    word = str(value).strip().lower()
    if word not in (*_TRUE, *_FALSE) or isinstance(value, (list, dict)):
        raise RowProblem("unknown label", f"'{column}' is {str(value)[:40]!r}, not true or false")
    return word in _TRUE


def last_answer(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation up to its last answer, which alone is learned. Raises RowProblem when there is none."""
    last = max((at for at, message in enumerate(messages) if message.role == "assistant"), default=None)
    if not last or all(message.role != "user" for message in messages[:last]):
        raise RowProblem("no answer to a prompt", "the last turn must be the assistant's, behind a user's")
    return tuple(replace(message, train=at == last) for at, message in enumerate(messages[: last + 1]))


def is_conversation(value: Any) -> bool:
    """Whether an answer is given as a whole conversation, prompt included."""
    return isinstance(value, list) and any(
        isinstance(item, Mapping) and (item.get("role") or item.get("from")) in ("user", "human") for item in value
    )


def is_said(prompt: Any, messages: Sequence[Message]) -> bool:
    """Whether a conversation says all that a prompt column beside it does."""
    text = "\n".join(message.content for message in messages)
    return all(part.strip() in text for part in _strings(prompt))


def _strings(value: Any) -> Iterator[str]:
    """Texts of a prompt: itself, or what its turns say."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from _strings(value.get("content") or value.get("value"))


def answered(examples: Sequence[Example]) -> list[Example]:
    """Those whose answer is right, as plain conversations; plain text stays what it is."""
    right = (example for example in examples if example.desirable)
    return [replace(one, kind="text" if one.kind == "text" else "chat", rejected=()) for one in right]


def flat(examples: Sequence[Example]) -> list[Example]:
    """Two conversations a row, side by side: chosen and rejected, or the judged one and a mismatched one.

    The mismatched answer is the next row's (the last row takes the first one's), as in TRL.
    """
    found = []
    for at, example in enumerate(examples):
        other = example.rejected
        if example.kind == "judged":
            other = (*example.messages[:-1], examples[(at + 1) % len(examples)].messages[-1])
        found += [
            replace(example, messages=messages, rejected=(), kind="chat") for messages in (example.messages, other)
        ]
    return found


def paired(documents: Sequence[Document], examples: Sequence[Example]) -> list[Document]:
    """Documents of `flat` numbered by their row and with their role; rows that lost one of the two are left out."""
    found: dict[int, list[Document]] = {}
    for document in documents:
        row, second = divmod(document.example, 2)
        found.setdefault(row, []).append(replace(document, example=row, role=_role(examples[row], bool(second))))
    return [document for row in sorted(found) if len(found[row]) == 2 for document in found[row]]


def _role(example: Example, second: bool) -> int:
    if example.kind == "judged":
        return MISMATCHED if second else DESIRED if example.desirable else UNDESIRED
    return REJECTED if second else CHOSEN
