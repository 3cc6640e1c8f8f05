"""Read files, recognize their row format and turn rows into conversations; collect the rows that cannot be used.

Free of torch, numpy and tokenizers, so that a check in the shell stays quick.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.convert import to_example
from engine.data.examples import BadRow, Example, Examples, Message, RowProblem
from engine.data.files import data_error
from engine.data.layouts import Layout, Planner, told
from engine.data.own_words import own_words
from engine.data.preference import NEEDED
from engine.data.rows import RawRow, read_rows
from engine.data.sources import data_files
from engine.data.survey import PEEK_ROWS, check_columns, check_format
from engine.data.turns import Reading
from engine.data.unread import Place, RowNotes, added

if TYPE_CHECKING:
    from engine.profile.schema import Dataset

PART_CHARS = 64_000_000
"""Of text that is held in memory at once."""


def read_examples(
    dataset: Dataset, base_dir: Path, *, index: int = 0, limit: int | None = None, objective: str = "sft"
) -> Examples:
    """Usable rows of a data set's first file, `limit` of them at most, and the unusable ones before them.

    As `read_parts`, which gives all files and any number of rows.
    """
    return next(read_parts(dataset, base_dir, index=index, limit=limit, objective=objective, rows=limit))


def read_parts(
    dataset: Dataset,
    base_dir: Path,
    *,
    index: int = 0,
    limit: int | None = None,
    objective: str = "sft",
    rows: int | None = None,
) -> Iterator[Examples]:
    """Every usable row, and every unusable one with its cause, at most `rows` usable ones (or 64 MB of text) at once.

    `dataset` names path, format and columns; relative paths start at `base_dir`; `index` marks the
    examples; reading stops after `limit` usable rows; `objective` may need a format of its own. Raises
    EngineError(DATA) when a file cannot be read or its format is not known.
    """
    left = limit
    files = data_files(dataset, base_dir)
    check_columns(files, dataset, NEEDED.get(objective, dataset.format))
    for path in files:
        for part in _file_parts(path, dataset, index, left, objective, rows):
            yield part
            left = None if left is None else left - len(part.examples)
        if left == 0:
            return


def _file_parts(
    path: Path, dataset: Dataset, index: int, limit: int | None, objective: str, rows: int | None
) -> Iterator[Examples]:
    kind, raws = read_rows(path, dataset.documents)
    first = list(itertools.islice(raws, PEEK_ROWS))
    if not first:
        raise data_error(f"the {kind} file holds no rows", where=str(path))
    planner = Planner(NEEDED.get(objective, dataset.format), dataset.columns, dataset.ignored_columns)
    check_format(path, kind, first, planner)
    reader = _Reader(path, planner, Reading(kind, dataset.values_as_text, own_words(dataset)), index)
    raws = itertools.chain(first, raws)
    while True:
        bounds = [bound for bound in (limit, rows) if bound is not None]
        part, ended = reader.part(raws, min(bounds, default=None))
        if part.rows_read:
            yield part
        limit = None if limit is None else limit - len(part.examples)
        if ended or limit == 0:
            return


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns the rows of one file into examples, some at a time."""

    path: Path
    planner: Planner
    reading: Reading
    index: int

    def part(self, rows: Iterator[RawRow], limit: int | None) -> tuple[Examples, bool]:
        """The next `limit` usable rows, and whether the file ended."""
        examples: list[Example] = []
        bad: list[BadRow] = []
        notes: Counter[str] = Counter()
        unread: Counter[Place] = Counter()
        layouts: Counter[Layout] = Counter()
        read = chars = 0
        ended = True
        noted = RowNotes()
        for raw in rows:
            read += 1
            if noted.unread or noted.notes:
                noted = RowNotes()
            try:
                if raw.cause:
                    raise RowProblem(raw.cause, raw.detail)
                example, planned = to_example(raw.value, self.planner, raw.row, self.index, noted, self.reading)
            except RowProblem as problem:
                bad.append(BadRow(raw.row, problem.cause, problem.detail, raw.line))
                continue
            except RecursionError:
                bad.append(BadRow(raw.row, "nested too deeply", "lists and objects in each other", raw.line))
                continue
            finally:
                if noted.unread:
                    added(unread, dict.fromkeys(noted.unread, 1))
            examples.append(example)
            chars += example.characters
            layouts[planned.layout] += 1
            if noted.notes:
                notes.update(noted.notes)
            if len(examples) == limit or (limit is not None and chars >= PART_CHARS):
                ended = False
                break
        name, why = told(layouts)
        found = Examples(self.path, name, why, read, tuple(examples), tuple(bad), notes, unread, layouts)
        return found, ended


def with_system(examples: Iterable[Example], system: str) -> list[Example]:
    """Put `system` before each conversation that has no system message of its own."""
    if not system.strip():
        return list(examples)
    head = Message("system", system)

    def headed(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return messages if not messages or messages[0].role == "system" else (head, *messages)

    return [
        example
        if example.kind == "text"
        else replace(
            example,
            messages=headed(example.messages),
            rejected=headed(example.rejected),
            as_text=headed(example.as_text),
        )
        for example in examples
    ]


def with_mask(examples: Iterable[Example], mask: str) -> list[Example]:
    """The examples with what `data.mask` leaves to learn: `last` keeps a conversation's last trained answer."""
    return [_last_only(example) if mask == "last" else example for example in examples]


def _last_only(example: Example) -> Example:
    return replace(example, messages=_last_trained(example.messages), as_text=_last_trained(example.as_text))


def _last_trained(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    last = max((at for at, message in enumerate(messages) if message.train), default=0)
    return tuple(replace(message, train=message.train and at == last) for at, message in enumerate(messages))
