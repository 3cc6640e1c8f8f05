"""What a data set's first rows say about all: whether they have a format, and whether named columns are there.

Only questions whose answer is a refusal are asked here; each row's format is its own (`layouts.py`). Files are read on
where the first rows do not settle it, as a column may begin in any row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.broken import is_turned, wrapped
from engine.data.files import data_error
from engine.data.layouts import KNOWN_COLUMNS, Planner, check_roles, missing_column, recognise
from engine.data.rows import RawRow, read_rows
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.profile.schema import Dataset

PEEK_ROWS = 100
_TABLES = ("csv", "parquet", "arrow")
"""Kinds of files whose first row has every column."""


def check_format(path: Path, kind: str, first: Sequence[RawRow], planner: Planner) -> None:
    """Raise EngineError(DATA) where no row of the file has a format, naming its columns and what to do."""
    if len(first) == 1 and is_turned(first[0].value):
        hint = "pandas writes rows with df.to_json(path, orient='records', lines=True)"
        raise data_error("one object holds all rows by number, not one row", where=str(path), hint=hint)
    if any(_has_format(row.value, planner) for row in first):
        return
    columns = _columns(path, first)
    try:
        recognise(columns, planner.wanted, planner.mapping, str(path))
    except EngineError:
        if kind not in _TABLES and len(first) >= PEEK_ROWS:
            _, rows = read_rows(path)
            if any(_has_format(row.value, planner) for row in rows):
                return
        _refuse_wrapped(path, first)
        raise


def _has_format(value: Any, planner: Planner) -> bool:
    return isinstance(value, dict) and planner.fits(value)


def _columns(path: Path, rows: Sequence[RawRow]) -> set[str]:
    objects = [row.value for row in rows if isinstance(row.value, dict)]
    if objects:
        return {str(key) for value in objects for key in value}
    row = rows[0]
    what = f"{row.cause}: {row.detail}" if row.cause else "rows must be objects with named columns"
    raise data_error(f"row {row.row}: {what}", where=str(path), hint="none of the first rows can be read")


def _refuse_wrapped(path: Path, first: Sequence[RawRow]) -> None:
    """Say so where the only row is an object around the list of rows."""
    value = first[0].value
    if len(first) != 1 or not isinstance(value, dict) or not KNOWN_COLUMNS.isdisjoint(value):
        return
    message, hint = wrapped(value, path.name)
    if message:
        raise data_error(message, where=str(path), hint=hint)


def check_columns(files: Sequence[Path], dataset: Dataset, wanted: str) -> None:
    """Raise EngineError(DATA) for a role that does not exist, or a column named for one that no row of any file has."""
    if not dataset.columns or not files:
        return
    check_roles(wanted, dataset.columns, str(files[0]))
    missing = set(dataset.columns.values())
    seen: set[str] = set()
    for keys in _keys(files):
        missing -= keys
        seen |= keys
        if not missing:
            return
    error = missing_column(seen, dataset.columns, str(files[0]))
    if error is not None:
        raise error


def _keys(files: Sequence[Path]) -> Iterator[set[str]]:
    """Columns of each row; of tables, those of the first."""
    for path in files:
        kind, rows = read_rows(path)
        for row in itertools.islice(rows, 1 if kind in _TABLES else None):
            if isinstance(row.value, dict):
                yield {str(key) for key in row.value}
