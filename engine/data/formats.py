"""Files to normalised conversations: reading, recognising, collecting what cannot be used.

Free of torch, numpy and tokenizers, so that a check in the shell stays quick. Called by `prepare.py`
in the worker and by whoever needs rows only (evaluation, tests).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.convert import to_example
from engine.data.examples import BadRow, Example, Examples, Message, RowProblem
from engine.data.files import data_error
from engine.data.layouts import Layout, recognise
from engine.data.preference import NEEDED
from engine.data.rows import RawRow, read_rows
from engine.errors import EngineError, ExitCode, Problem
from engine.profile.datafiles import data_path

if TYPE_CHECKING:
    from engine.profile.schema import Dataset

PEEK_ROWS = 100
"""Rows whose columns decide the format."""
SHOWN_BAD_ROWS = 5


def read_examples(
    dataset: Dataset, base_dir: Path, *, index: int = 0, limit: int | None = None, objective: str = "sft"
) -> Examples:
    """Every usable row of one file, and every unusable one with its cause.

    `dataset` names path, format and columns; relative paths start at `base_dir`; `index` marks the
    examples; reading stops after `limit` usable rows; `objective` may need a format of its own. Raises
    EngineError(DATA) when the file itself cannot be read or its format is not known.
    """
    path = data_path(dataset.path, base_dir)
    kind, rows = read_rows(path)
    first = list(itertools.islice(rows, PEEK_ROWS))
    if not first:
        raise data_error(f"the {kind} file holds no rows", where=str(path))
    wanted = NEEDED.get(objective, dataset.format)
    layout = recognise(_columns(path, first), wanted, dataset.columns, str(path))
    return _collect(path, layout, itertools.chain(first, rows), index, limit)


def _columns(path: Path, rows: list[RawRow]) -> set[str]:
    objects = [row.value for row in rows if isinstance(row.value, dict)]
    if objects:
        return {str(key) for value in objects for key in value}
    row = rows[0]
    what = f"{row.cause}: {row.detail}" if row.cause else "rows must be objects with named columns"
    raise data_error(f"row {row.row}: {what}", where=str(path), hint="none of the first rows can be read")


def _collect(path: Path, layout: Layout, rows: Iterator[RawRow], index: int, limit: int | None) -> Examples:
    examples: list[Example] = []
    bad: list[BadRow] = []
    notes: Counter[str] = Counter()
    read = 0
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
        notes.update([note] if note else [])
        if len(examples) == limit:
            break
    told = tuple(f"{note}: {count} rows" for note, count in notes.items())
    return Examples(path, layout.name, layout.why, read, tuple(examples), tuple(bad), told)


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


def check_bad_fraction(files: Sequence[Examples], max_bad_fraction: float) -> None:
    """EngineError(DATA) with the first bad rows and the totals when too many rows are unusable."""
    total, bad = sum(file.rows_read for file in files), sum(len(file.bad) for file in files)
    if bad == 0 or (bad <= max_bad_fraction * total and any(file.examples for file in files)):
        return
    causes: Counter[str] = Counter()
    for file in files:
        causes.update(file.causes)
    told = ", ".join(f"{count} x {cause}" for cause, count in causes.most_common())
    message = f"{bad} of {total} rows cannot be used ({bad / total:.1%}; allowed: {max_bad_fraction:.1%}): {told}"
    hint = "correct these rows, or raise data.max_bad_fraction to leave them out"
    if any("template" in cause for cause in causes):
        hint = "choose another data.template, or leave out a data.system that this template cannot hold"
    shown = [(file.path, row) for file in files for row in file.bad][:SHOWN_BAD_ROWS]
    problems = tuple(Problem(str(row), where=row.where(path), line=row.line) for path, row in shown)
    remedy = Problem(hint, key="data.max_bad_fraction")
    raise EngineError(message, code=ExitCode.DATA, hint=hint, where=str(shown[0][0]), problems=(*problems, remedy))
