"""TOML from a person nobody vouches for: read and parsed within bounds, every failure a `Problem`.

`tomllib` takes time and memory that grow with the square of a dotted key's length, raises four kinds of exception
beside its own, and knows no byte-order mark; all of that stops here. Not here: what the keys mean.
"""

from __future__ import annotations

import contextlib
import re
import stat
import tomllib
from bisect import bisect_right
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.text import sanitize

MAX_BYTES = 256 * 1024
MAX_LINES = 5000
MAX_LINE_CHARS = 8 * 1024
MAX_LINE_DOTS = 32
MAX_DOTS = 4000
MAX_DEPTH = 40

_QUOTED = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)|\'\'\'.*?(?:\'{3,5}|\Z)|"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?', re.DOTALL
)
_AT_LINE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")

_TOO_DEEP = "tables or lists are nested too deeply"


class BadToml(Exception):
    """Carries the one problem that kept a text from being read or parsed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def shown_path(path: Path) -> str:
    """The path as messages print it."""
    return sanitize(str(path), max_chars=300, single_line=True)


def read_text(path: Path) -> str:
    """The file's text without a byte-order mark. Raises `BadToml`; reads at most `MAX_BYTES`."""
    return _decode(_read_bytes(path), shown_path(path))


def parse(text: str, shown: str) -> dict[str, Any]:
    """The tables of `text`. Raises `BadToml` with the line where that is known."""
    _guard(text, shown)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadToml(_syntax_problem(error, text, shown)) from None
    except RecursionError:
        raise _bad(shown, _TOO_DEEP, "flatten them") from None
    except (ValueError, MemoryError) as error:
        message = f"holds a value that cannot be read: {sanitize(str(error), max_chars=120, single_line=True)}"
        raise _bad(shown, message, "look for a very long number or an impossible date") from None
    if _is_deep(tree):
        raise _bad(shown, _TOO_DEEP, "flatten them")
    return tree


def _is_deep(tree: dict[str, Any]) -> bool:
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True


def _read_bytes(path: Path) -> bytes:
    shown = shown_path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _bad(shown, "is not a file", "give the path of a profile (.toml)")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        where = sanitize(str(path.absolute()), max_chars=300, single_line=True)
        raise _bad(where, "there is no such profile", "check the path, or see 'engine profile list'") from None
    except (OSError, ValueError) as error:
        raise _bad(shown, f"cannot be read: {getattr(error, 'strerror', None) or 'bad path'}", "check it") from None
    if len(raw) > MAX_BYTES:
        raise _bad(shown, f"is larger than {MAX_BYTES // 1024} KiB", "a profile is a page of settings, not data")
    return raw


def _decode(raw: bytes, shown: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _bad(shown, "is encoded as UTF-16", "save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _bad(shown, f"byte 0x{raw[error.start]:02x} is not UTF-8", "save it as UTF-8", line) from None


def _guard(text: str, shown: str) -> None:
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise _bad(shown, f"is larger than {MAX_BYTES // 1024} KiB", "a profile is a page of settings, not data")
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        raise _bad(shown, f"has more than {MAX_LINES} lines", "a profile is a page of settings, not data")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_CHARS:
            raise _bad(shown, f"the line is longer than {MAX_LINE_CHARS} characters", "break it up", number)
    bare = _QUOTED.sub(lambda found: "\n" * found.group().count("\n"), text)
    if bare.count(".") > MAX_DOTS:
        raise _bad(shown, f"has more than {MAX_DOTS} dots outside quotes", "a profile is a page of settings, not data")
    for number, line in enumerate(bare.split("\n"), 1):
        if line.count(".") > MAX_LINE_DOTS:
            message = f"the line has more than {MAX_LINE_DOTS} dots outside quotes"
            raise _bad(shown, message, "write it as tables, one setting a line", number)


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str, shown: str) -> Problem:
    said = str(error)
    at = _AT_LINE.search(said)
    line = int(at.group(1)) if at and at.group(1) else max(1, len(text.splitlines()))
    what = sanitize(_AT_LINE.sub("", said), max_chars=200, single_line=True)
    column = f" at column {at.group(2)}" if at and at.group(2) else ""
    hint = "write it as: key = value, with text in quotes"
    if "overwrite" in what.lower() or "twice" in what.lower() or "declare" in what.lower():
        hint = "each key and each table may stand once"
    if "hex value" in what.lower() or "unescaped '\\'" in what.lower():
        what = f"a backslash in double quotes begins an escape ({what})"
        hint = "write a path in single quotes, 'C:\\data\\train.jsonl', or with forward slashes"
    return _problem(shown, f"not TOML{column}: {what}", hint, line)


def _problem(shown: str, message: str, hint: str, line: int | None = None) -> Problem:
    return Problem(message=message, hint=hint, where=f"{shown}:{line}" if line else shown, line=line)


def _bad(shown: str, message: str, hint: str, line: int | None = None) -> BadToml:
    return BadToml(_problem(shown, message, hint, line))


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
