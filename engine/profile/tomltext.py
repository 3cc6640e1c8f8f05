"""TOML from a person nobody vouches for: read and parsed within bounds, every failure a `Problem`.

`tomllib` takes time and memory that grow with the square of a dotted key's length, raises four
kinds of exception beside its own, and knows no byte-order mark; all of that stops here. Called by
`load.py` and `save.py`. Not here: what the keys mean.
"""

from __future__ import annotations

import re
import stat
import tomllib
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
    return _problem(shown, f"not TOML{column}: {what}", hint, line)


def _problem(shown: str, message: str, hint: str, line: int | None = None) -> Problem:
    return Problem(message=message, hint=hint, where=f"{shown}:{line}" if line else shown, line=line)


def _bad(shown: str, message: str, hint: str, line: int | None = None) -> BadToml:
    return BadToml(_problem(shown, message, hint, line))
