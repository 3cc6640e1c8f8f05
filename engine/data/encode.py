"""Conversations to documents of token ids and labels, in batches.

One thread tokenizes a batch, without Python's lock, while the main thread renders the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from engine.data.chat import ChatTemplate, Tokenizer
from engine.data.examples import Example, RowProblem
from engine.data.fast_tokens import tokens_of
from engine.data.mask import Masker
from engine.data.rendered import MaskNotes, Rendered
from engine.data.tokens import IGNORED, Ids, backend_of

BATCH_ROWS = 512
BATCH_CHARS = 4_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens and labels of one document (int32, equal length); `example` = position in the input."""

    ids: Ids
    labels: Ids
    example: int
    role: int = 0
    """Role in the loss (`preference.py`); 0 = plain training."""

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss sees."""
        return int((self.labels != IGNORED).sum())


@dataclass(frozen=True, slots=True)
class Encoded:
    """Documents in the order of the examples, the examples that the template refused, and the masker's notes."""

    documents: list[Document]
    refused: list[tuple[int, RowProblem]]
    notes: MaskNotes


def encode_examples(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    on_progress: Progress,
    masker: Masker | None = None,
) -> Encoded:
    """Render, tokenize and mask all examples. `on_progress(done, total)` counts examples.

    `masker` where the loss sees other parts than every answer.

    Raises EngineError(MODEL) for a tokenizer without character offsets.
    """
    tokens = tokens_of(backend_of(tokenizer))
    masker = masker or Masker(tokenizer, template)
    documents: list[Document] = []
    refused: list[tuple[int, RowProblem]] = []
    with ThreadPoolExecutor(1) as pool:
        under_way: tuple[list[int], int, Future[list[tuple[Ids, Ids]]]] | None = None
        done = 0
        for batch in _batches(examples):
            owners, rendered = _rendered(masker, batch, done, refused)
            done += len(batch)
            if under_way is not None:
                documents += _finished(under_way, on_progress, len(examples))
            under_way = owners, done, pool.submit(tokens, rendered)
        if under_way is not None:
            documents += _finished(under_way, on_progress, len(examples))
    return Encoded(documents, refused, masker.notes)


def _rendered(
    masker: Masker, batch: list[Example], first: int, refused: list[tuple[int, RowProblem]]
) -> tuple[list[int], list[Rendered]]:
    """Documents of a batch, each with the position of its example."""
    owners: list[int] = []
    rendered: list[Rendered] = []
    for number, found in enumerate(masker.render_examples(batch), first):
        if isinstance(found, RowProblem):
            refused.append((number, found))
        else:
            rendered += found
            owners += [number] * len(found)
    return owners, rendered


def _finished(
    under_way: tuple[list[int], int, Future[list[tuple[Ids, Ids]]]], on_progress: Progress, total: int
) -> list[Document]:
    owners, done, found = under_way
    documents = [Document(ids, labels, owner) for owner, (ids, labels) in zip(owners, found.result(), strict=True)]
    on_progress(done, total)
    return documents


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    chars = 0
    for example in examples:
        batch.append(example)
        chars += example.characters
        if len(batch) >= BATCH_ROWS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
