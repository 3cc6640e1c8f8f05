"""Rows of json, jsonl, csv, parquet and arrow files, one at a time, each with its number.

A row that cannot be read is passed on with its cause when the rest of the file can be; otherwise
EngineError(DATA) names file, row and line. Rows are values as parsed; `layouts.py` gives them meaning.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from engine.data.broken import line_refusal, several_objects, why_not_json, wrapped
from engine.data.columnar import arrow_values, parquet_values
from engine.data.files import data_error, file_kind, open_data
from engine.data.texts import text_rows

MAX_ROW_BYTES = 8 * 1024 * 1024
"""A longer row is a bad row: no context window holds it, and a bomb must not fill the memory."""
MAX_ARRAY_BYTES = 4 * 1024 * 1024 * 1024
"""A JSON array is read whole; larger ones belong into JSON lines."""
HEAD_BYTES = 65536

TOO_LONG = "row too long"
_DECODER = json.JSONDecoder()
_UTF_8 = "save it as UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8 {name} > utf8.txt"
_BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class RawRow:
    """A parsed row, or why it could not be parsed (`cause`). `row` and `line` count from 1."""

    row: int
    line: int | None
    value: Any = None
    cause: str = ""
    detail: str = ""


def read_rows(path: Path, documents: str = "file") -> tuple[str, Iterator[RawRow]]:
    """The kind of file, and its rows. The file is opened and its head checked at once.

    `documents`: what a row of a text file is, the whole `file`, each `paragraph` or each `line`.
    """
    file = open_data(path)
    try:
        head = _head(file)
        kind = file_kind(path, head)
        if kind == "jsonl":
            _check_lines(path, head)
    except BaseException:
        file.close()
        raise
    readers: dict[str, Callable[[Path, BinaryIO], Iterator[RawRow]]] = {
        "json": _array_rows,
        "jsonl": _line_rows,
        "csv": _csv_rows,
        "parquet": partial(_columnar_rows, "parquet", parquet_values),
        "arrow": partial(_columnar_rows, "arrow", arrow_values),
        "text": partial(_text_rows, documents),
    }
    return kind, _closing(file, readers[kind](path, file))


def _closing(file: BinaryIO, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    with file:
        yield from rows


def _line_rows(path: Path, file: BinaryIO) -> Iterator[RawRow]:
    row = 0
    for line in itertools.count(1):
        data = file.readline(MAX_ROW_BYTES + 1)
        if not data:
            return
        if len(data) > MAX_ROW_BYTES:
            row += 1
            _skip_line(file, data)
            yield RawRow(row, line, cause=TOO_LONG, detail=f"more than {MAX_ROW_BYTES} bytes")
            continue
        data = data.removeprefix(b"\xef\xbb\xbf") if line == 1 else data
        if data.strip():
            row += 1
            yield _parse_line(data, row, line)


def _check_lines(path: Path, head: bytes) -> None:
    """Refuse objects that are written over several lines: each line alone would be a bad row."""
    try:
        message = line_refusal(head.decode("utf-8-sig", "replace"))
    except RecursionError:
        return
    if message:
        hint = f"write one object a line: jq -c . {path.name} > lines.jsonl"
        raise data_error(message, where=str(path), hint=hint)


def _text_rows(documents: str, path: Path, file: BinaryIO) -> Iterator[RawRow]:
    for row, (line, text, detail) in enumerate(text_rows(file, documents, MAX_ROW_BYTES), 1):
        cause = "not UTF-8" if detail else ""
        yield RawRow(row, line, {"text": text} if not detail else None, cause, detail)


def _skip_line(file: BinaryIO, data: bytes) -> None:
    while data and not data.endswith(b"\n"):
        data = file.readline(MAX_ROW_BYTES)


def _parse_line(data: bytes, row: int, line: int) -> RawRow:
    if b"\0" in data:
        return RawRow(row, line, cause="NUL bytes", detail="damaged or binary")
    try:
        return RawRow(row, line, _DECODER.decode(data.decode("utf-8")))
    except UnicodeDecodeError as error:
        detail = f"byte {error.start + 1} of the line; if the file is Latin-1: iconv -f LATIN1 -t UTF-8"
        return RawRow(row, line, cause="not UTF-8", detail=detail)
    except json.JSONDecodeError as error:
        ends = "" if data.endswith(b"\n") else "; the file ends inside this row"
        return RawRow(row, line, cause="not valid JSON", detail=f"{why_not_json(error)} at column {error.colno}{ends}")
    except (RecursionError, ValueError) as error:
        return RawRow(row, line, cause="not valid JSON", detail=_why(error))


def _why(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _array_rows(path: Path, file: BinaryIO) -> Iterator[RawRow]:
    text = _whole_text(path, file)
    position = _blank_end(text, 0)
    if text[position : position + 1] != "[":
        raise _not_an_array(path, text)
    decoder, line, counted = _DECODER, 1, 0
    position = _blank_end(text, position + 1)
    for row in itertools.count(1):
        if row == 1 and text[position : position + 1] == "]":
            break
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            hint = f"remove the comma before the ']' in line {line}"
            raise data_error(f"a comma without a row behind it, after row {row - 1}", where=str(path), hint=hint)
        try:
            value, end = decoder.raw_decode(text, position)
        except (RecursionError, ValueError) as error:
            raise _array_error(path, text, row, line, error) from error
        if end - position > MAX_ROW_BYTES:
            yield RawRow(row, line, cause=TOO_LONG, detail=f"more than {MAX_ROW_BYTES} characters")
        else:
            yield RawRow(row, line, value)
        position = _blank_end(text, end)
        if text[position : position + 1] == "]":
            break
        if text[position : position + 1] != ",":
            missing = "the file ends here" if position >= len(text) else "',' or ']' expected"
            hint = "the list is not closed: the file may be cut off"
            raise data_error(f"after row {row} (line {line}): {missing}", where=str(path), hint=hint)
        position = _blank_end(text, position + 1)
    if text[position + 1 :].strip():
        raise data_error(
            "text follows the end of the JSON list", where=str(path), hint="one list in a file, or JSON lines"
        )


def _blank_end(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _whole_text(path: Path, file: BinaryIO) -> str:
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise data_error("a JSON list of more than 4 GiB", where=str(path), hint="convert it to JSON lines (.jsonl)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise data_error(
            f"line {line}: not UTF-8 at byte {error.start}", where=str(path), hint=_UTF_8.format(name=path.name)
        ) from error


def _array_error(path: Path, text: str, row: int, line: int, error: Exception) -> Exception:
    if isinstance(error, json.JSONDecodeError):
        ends = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        what = f"{why_not_json(error)} at line {error.lineno} column {error.colno}" + (
            " (the file may be cut off)" if ends else ""
        )
    else:
        what = _why(error)
    return data_error(
        f"row {row} (line {line}): not valid JSON: {what}", where=str(path), hint="correct or remove the row"
    )


def _not_an_array(path: Path, text: str) -> Exception:
    try:
        value, end = _DECODER.raw_decode(text, _blank_end(text, 0))
    except (RecursionError, ValueError) as error:
        return _array_error(path, text, 1, 1, error)
    if isinstance(value, dict) and text[end:].strip():
        hint = f"write one object a line: jq -c . {path.name} > lines.jsonl"
        return data_error(several_objects(text, end), where=str(path), hint=hint)
    message, hint = wrapped(value, path.name) if isinstance(value, dict) else ("", "")
    if message:
        return data_error(message, where=str(path), hint=hint)
    hint = "write [{…}, {…}] or one object a line"
    return data_error("row 1: the file holds one value, not a list of rows", where=str(path), hint=hint)


def _csv_rows(path: Path, file: BinaryIO) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ROW_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader, row = csv.reader(text, delimiter=_delimiter(file), strict=True), 0
    try:
        header = next(reader, [])
        _check_header(path, header)
        for cells in reader:
            if not cells:
                continue
            row += 1
            yield _csv_row(header, cells, row, reader.line_num)
    except UnicodeDecodeError as error:
        raise data_error(
            f"row {row + 1}: not UTF-8 ({error.reason})", where=str(path), hint=_UTF_8.format(name=path.name)
        ) from error
    except csv.Error as error:
        hint = "look for a quote that is not closed"
        raise data_error(f"row {row + 1} (line {reader.line_num}): {error}", where=str(path), hint=hint) from error


def _delimiter(file: BinaryIO) -> str:
    first = file.readline(HEAD_BYTES)
    file.seek(0)
    return max((",", ";", "\t"), key=lambda mark: first.count(mark.encode()))


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise data_error(f"line 1: column '{twice[0]}' stands twice", where=str(path), hint="rename one of them")


def _csv_row(header: list[str], cells: list[str], row: int, line: int) -> RawRow:
    if len(cells) != len(header):
        detail = f"{len(cells)} cells, the header has {len(header)}"
        return RawRow(row, line, cause="wrong number of cells", detail=detail)
    if sum(map(len, cells)) > MAX_ROW_BYTES:
        return RawRow(row, line, cause=TOO_LONG, detail=f"more than {MAX_ROW_BYTES} characters")
    return RawRow(row, line, dict(zip(header, cells, strict=True)))


def _columnar_rows(
    kind: str, values: Callable[[Path, BinaryIO], Iterator[Any]], path: Path, file: BinaryIO
) -> Iterator[RawRow]:
    import pyarrow

    row = 0
    try:
        for value in values(path, file):
            row += 1
            yield RawRow(row, None, value)
    except (pyarrow.ArrowException, OSError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "the file is damaged or cut off; write it again"
        raise data_error(f"after row {row}: cannot be read as {kind}: {what}", where=str(path), hint=hint) from error


def _head(file: BinaryIO) -> bytes:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head
