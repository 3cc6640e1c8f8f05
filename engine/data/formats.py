"""Read files, recognize their row format and turn rows into conversations; collect the rows that cannot be used.

Free of torch, numpy and tokenizers, so that a check in the shell stays quick.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.convert import to_example
from engine.data.examples import BadRow, Example, Examples, Message, RowProblem
from engine.data.files import data_error
from engine.data.layouts import Layout, recognise
from engine.data.preference import NEEDED
from engine.data.rows import RawRow, read_rows
from engine.data.sources import data_files

if TYPE_CHECKING:
    from engine.profile.schema import Dataset

PEEK_ROWS = 100
"""Rows whose columns decide the format."""
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
    for path in data_files(dataset, base_dir):
        for part in _file_parts(path, dataset, index, left, objective, rows):
            yield part
            left = None if left is None else left - len(part.examples)
        if left == 0:
            return


def _file_parts(
    path: Path, dataset: Dataset, index: int, limit: int | None, objective: str, rows: int | None
) -> Iterator[Examples]:
    kind, raws = read_rows(path)
    first = list(itertools.islice(raws, PEEK_ROWS))
    if not first:
        raise data_error(f"the {kind} file holds no rows", where=str(path))
    wanted = NEEDED.get(objective, dataset.format)
    layout = recognise(_columns(path, first), wanted, dataset.columns, str(path))
    raws = itertools.chain(first, raws)
    while True:
        bounds = [bound for bound in (limit, rows) if bound is not None]
        part, ended = _collect(path, layout, raws, index, min(bounds, default=None))
        if part.rows_read:
            yield part
        limit = None if limit is None else limit - len(part.examples)
        if ended or limit == 0:
            return


def _columns(path: Path, rows: list[RawRow]) -> set[str]:
    objects = [row.value for row in rows if isinstance(row.value, dict)]
    if objects:
        return {str(key) for value in objects for key in value}
    row = rows[0]
    what = f"{row.cause}: {row.detail}" if row.cause else "rows must be objects with named columns"
    raise data_error(f"row {row.row}: {what}", where=str(path), hint="none of the first rows can be read")


def _collect(
    path: Path, layout: Layout, rows: Iterator[RawRow], index: int, limit: int | None
) -> tuple[Examples, bool]:
    """The next `limit` usable rows, and whether the file ended."""
    examples: list[Example] = []
    bad: list[BadRow] = []
    notes: Counter[str] = Counter()
    read = chars = 0
    ended = True
    for raw in rows:
        read += 1
        try:
            if raw.cause:
                raise RowProblem(raw.cause, raw.detail)
            example, note = to_example(raw.value, layout, raw.row, index)
        except RowProblem as problem:
            bad.append(BadRow(raw.row, problem.cause, problem.detail, raw.line))
            continue
        examples.append(example)
        chars += example.characters
        notes.update([note] if note else [])
        if len(examples) == limit or (limit is not None and chars >= PART_CHARS):
            ended = False
            break
    return Examples(path, layout.name, layout.why, read, tuple(examples), tuple(bad), notes), ended


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
        else replace(example, messages=headed(example.messages), rejected=headed(example.rejected))
        for example in examples
    ]


def with_mask(examples: Iterable[Example], mask: str) -> list[Example]:
    """The examples with what `data.mask` leaves to learn: `last` keeps a conversation's last trained answer."""
    return [_last_only(example) if mask == "last" else example for example in examples]


def _last_only(example: Example) -> Example:
    last = max((at for at, message in enumerate(example.messages) if message.train), default=0)
    turns = (replace(message, train=message.train and at == last) for at, message in enumerate(example.messages))
    return replace(example, messages=tuple(turns))
