"""Held-out conversations as tokens: what is scored, with training's mask, and what is asked.

Templates, masks and tokens are `engine.data`'s own, so that evaluation measures what training taught. The prompt is
rendered and tokenized as an application would do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.asked import tokens_of_prompts
from engine.data.chat import ChatTemplate, choose_template, trained_template
from engine.data.encode import encode_examples
from engine.data.examples import RowProblem
from engine.data.mask import masker_of
from engine.data.tokens import IGNORED
from engine.errors import EngineError, ExitCode
from engine.inference.losses import Encoded, RowLoss
from engine.inference.rows import HeldOut
from engine.profile.schema import Profile


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Documents with the row that each belongs to, prompts by row, and what had to be left out.

    A row has one document, or one an answer where the template asks for it.
    """

    documents: list[Encoded]
    owners: list[int]
    prompts: dict[int, list[int]]
    cut: int
    """Documents longer than `max_length`, scored up to it as in training."""
    too_long: int
    """Rows whose prompt leaves no room for an answer."""
    last_trained: frozenset[int] = frozenset()
    """The last trained token of every document that was not cut: what ends an answer."""
    refused: int = 0
    """Rows whose prompt the template does not write without the answer behind it."""

    @property
    def trained(self) -> int:
        """Tokens to score."""
        return sum(label != IGNORED for document in self.documents for label in document.labels)

    def by_row(self, losses: Sequence[RowLoss], rows: int) -> list[RowLoss]:
        """Losses of documents added up by row."""
        nll, tokens = [0.0] * rows, [0] * rows
        for owner, loss in zip(self.owners, losses, strict=True):
            nll[owner] += loss.nll
            tokens[owner] += loss.tokens
        return [RowLoss(*pair) for pair in zip(nll, tokens, strict=True)]


def encode_rows(
    rows: Sequence[HeldOut],
    tokenizer: Any,
    *,
    max_length: int,
    room_tokens: int,
    settings: Profile | None = None,
) -> EncodedRows:
    """Tokens of `rows`; prompts of at most `room_tokens`. `settings`: of the run whose mask counts.

    Raises EngineError(MODEL) when the run's template refuses a row that training accepted.
    """
    template = choose_template(tokenizer) if settings is None else trained_template(settings, tokenizer)
    masker = None if settings is None else masker_of(settings, tokenizer, template)
    encoded = encode_examples([row.example for row in rows], tokenizer, template, lambda done, total: None, masker)
    if encoded.refused:
        number, problem = encoded.refused[0]
        raise EngineError(
            f"held-out row {rows[number].example.row}: {problem.cause}: {problem.detail}",
            code=ExitCode.MODEL,
            where="chat template",
            hint="the tokenizer of the run is not the one it was trained with",
        )
    documents = [
        Encoded(tuple(document.ids[:max_length].tolist()), tuple(document.labels[:max_length].tolist()))
        for document in encoded.documents
    ]
    prompts, refused = _prompts(rows, tokenizer, template)
    fitting = {number: ids for number, ids in prompts.items() if len(ids) <= room_tokens}
    return EncodedRows(
        documents,
        [document.example for document in encoded.documents],
        fitting,
        cut=sum(len(document.ids) > max_length for document in encoded.documents),
        too_long=len(prompts) - len(fitting),
        refused=refused,
        last_trained=frozenset(
            int(document.labels[-1])
            for document in encoded.documents
            if len(document.ids) <= max_length and document.labels[-1] != IGNORED
        ),
    )


def _prompts(rows: Sequence[HeldOut], tokenizer: Any, template: ChatTemplate) -> tuple[dict[int, list[int]], int]:
    """Token ids of every row that has a prompt, with the start of the answer; and how many the template refused."""
    asked = [number for number, row in enumerate(rows) if row.has_prompt]
    examples = [rows[number].example for number in asked]
    prompts = tokens_of_prompts(tokenizer, template, examples)
    found = {number: ids for number, ids in zip(asked, prompts, strict=True) if not isinstance(ids, RowProblem)}
    return found, len(asked) - len(found)
