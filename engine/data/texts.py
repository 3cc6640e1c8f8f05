"""Plain text files as documents: the whole file, blocks between blank lines, or lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import BinaryIO

PIECE_BYTES = 4 * 1024 * 1024
"""A longer document goes on in the next row, at a line's end where there is one."""

Piece = tuple[int, str, str]
"""First line, text, and what is wrong with it."""


def text_rows(file: BinaryIO, documents: str, max_bytes: int) -> Iterator[Piece]:
    """Documents of a text file, none longer than `max_bytes`; blank ones are left out."""
    limit = min(PIECE_BYTES, max_bytes)
    held: list[bytes] = []
    size, first = 0, 1
    for number, line in _lines(file, limit):
        blank = not line.strip()
        ends = documents == "line" or (documents == "paragraph" and blank)
        if held and size + len(line) > limit:
            yield _piece(first, held)
            held, size = [], 0
        if not held:
            first = number
        if not (blank and (ends or not held)):
            held.append(line)
            size += len(line)
        if ends and held:
            yield _piece(first, held)
            held, size = [], 0
    if held:
        yield _piece(first, held)


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; a very long one in parts, cut between characters."""
    number, rest = 1, b""
    for place in itertools.count():
        data = file.readline(limit - 8)
        if not data:
            if rest:
                yield number, rest
            return
        data = data.removeprefix(b"\xef\xbb\xbf") if place == 0 else data
        data, rest = rest + data, b""
        if not data.endswith(b"\n"):
            cut = next((at for at in range(1, 4) if len(data) > at and data[-at] >= 0xC0), 0)
            data, rest = (data[:-cut], data[-cut:]) if cut else (data, b"")
        yield number, data
        number += data.endswith(b"\n")


def _piece(first: int, lines: list[bytes]) -> Piece:
    data = b"".join(lines)
    if b"\0" in data:
        return first, "", "NUL bytes: the file is damaged or no text"
    try:
        return first, data.decode("utf-8").replace("\r\n", "\n").strip("\n"), ""
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        return first, "", f"line {line}; if the file is Latin-1: iconv -f LATIN1 -t UTF-8"
