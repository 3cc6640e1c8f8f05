"""Which line of a TOML text each key stands on.

`tomllib` does not tell, and a message without a line sends a person searching. Called by `load.py`
on text that has already parsed; inline tables and arrays of them are followed, keys with escapes in
their quotes are not. Not here: values.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right

_BLANK = re.compile(r"(?:\s|#[^\n]*)+")
_KEY_PART = re.compile(r'[ \t]*(?:"((?:\\.|[^"\\\n])*)"|\'([^\'\n]*)\'|([A-Za-z0-9_-]+))[ \t]*')
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_SCALAR = re.compile(r"[^,\]\}\n#]+")


def key_lines(text: str) -> dict[str, int]:
    """Dotted key -> line, from 1; entries of arrays of tables are numbered from 0 within their key."""
    scanner = _Scanner(text)
    # A text that the scanner misreads costs line numbers, never the answer.
    with contextlib.suppress(RecursionError, IndexError):
        scanner.document()
    return scanner.lines


def line_of(lines: dict[str, int], key: str) -> int | None:
    """The key's line, else that of the nearest table around it."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        line = lines.get(".".join(parts[:length]))
        if line is not None:
            return line
    return None


class _Scanner:
    """A position in the text that moves forward only."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[str, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._entries: dict[str, int] = {}

    def document(self) -> None:
        """Headers and assignments up to the end of the text."""
        prefix: list[str] = []
        while self._skip_blank() < len(self.text):
            before = self.position
            if self.text[self.position] == "[":
                prefix = self._header()
            else:
                self._assignment(prefix)
            if self.position == before:
                return

    def _header(self) -> list[str]:
        at = self.position
        is_entry = self.text.startswith("[[", at)
        self.position += 2 if is_entry else 1
        parts = self._key()
        self.position += 2 if is_entry else 1
        path: list[str] = []
        for depth, part in enumerate(parts, 1):
            path.append(part)
            joined = ".".join(path)
            if is_entry and depth == len(parts):
                self._entries[joined] = self._entries.get(joined, -1) + 1
            if joined in self._entries:
                self._note(path, at)
                path.append(str(self._entries[joined]))
        self._note(path, at)
        return path

    def _assignment(self, prefix: list[str]) -> None:
        self._skip_blank()
        at = self.position
        parts = self._key()
        if not parts:
            return
        for length in range(1, len(parts) + 1):
            self._note([*prefix, *parts[:length]], at)
        self.position += 1
        self._value([*prefix, *parts])

    def _key(self) -> list[str]:
        parts: list[str] = []
        while found := _KEY_PART.match(self.text, self.position):
            parts.append(next(group for group in found.groups() if group is not None))
            self.position = found.end()
            if not self.text.startswith(".", self.position):
                break
            self.position += 1
        return parts

    def _value(self, path: list[str]) -> None:
        self._skip_blank()
        first = self.text[self.position]
        if first == "{":
            self._inline_table(path)
        elif first == "[":
            self._array(path)
        else:
            found = _STRING.match(self.text, self.position) or _SCALAR.match(self.text, self.position)
            self.position = found.end() if found else self.position + 1

    def _inline_table(self, path: list[str]) -> None:
        self.position += 1
        while self._skip_separators() != "}":
            before = self.position
            self._assignment(path)
            if self.position == before:
                return
        self.position += 1

    def _array(self, path: list[str]) -> None:
        self.position += 1
        number = 0
        while self._skip_separators() != "]":
            self._note([*path, str(number)], self.position)
            self._value([*path, str(number)])
            number += 1
        self.position += 1

    def _skip_separators(self) -> str:
        self._skip_blank()
        while self.text[self.position] == ",":
            self.position += 1
            self._skip_blank()
        return self.text[self.position]

    def _skip_blank(self) -> int:
        found = _BLANK.match(self.text, self.position)
        self.position = found.end() if found else self.position
        return self.position

    def _note(self, path: list[str], at: int) -> None:
        self.lines.setdefault(".".join(path), bisect_right(self._starts, at))
