"""Output to a terminal or file of any encoding: what it cannot show has a stand-in, never an error.

Frames, bars, dots and quotes become ASCII that means the same; a letter becomes its escape (`\\xe9`), so that nothing
is lost. UTF-8 shows everything but halves of characters, as names of files that are not UTF-8 have them.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TextIO

STAND_INS = "tunedeck-stand-ins"
_ASCII = "tunedeck-ascii"
_ALIKE = {
    "…": "...",
    "—": "-",
    "–": "-",
    "‘": "'",
    "’": "'",
    "‚": ",",
    "“": '"',
    "”": '"',
    "„": '"',
    "•": "*",
    "·": ".",
    "→": "->",
    "←": "<-",
    "↑": "^",
    "↓": "v",
    "⏎": "\\n",
    "×": "x",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "±": "+-",
    "✓": "ok",
    "✗": "x",
    "▲": "^",
    "▼": "v",
    "●": "*",
    "○": "o",
    "⟦": "[[",
    "⟧": "]]",
    "\u00a0": " ",
    "\u202f": " ",
    "\ufffd": "?",
    "─": "-",
    "━": "-",
    "═": "=",
    "│": "|",
    "┃": "|",
    "║": "|",
}


def make_printable() -> None:
    """Let stdout and stderr of this process take any text. What a person chose with PYTHONIOENCODING stays."""
    codecs.register_error(STAND_INS, stand_in)
    codecs.register(_named)
    sys.stdin = sys.stdin or _nothing()
    sys.stdout, sys.stderr = _printable(sys.stdout or _nothing()), _printable(sys.stderr or _nothing())


def _nothing() -> TextIO:
    """In place of a stream that was closed before this process began: Python has None there."""
    return open(os.devnull, "r+", encoding="utf-8")


_FROM_PYTHON = ("strict", "surrogateescape", "backslashreplace")
"""What streams do with such text where nobody has said it."""


def _printable(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or stream.errors not in (
        "strict",
        "surrogateescape",
        "backslashreplace",
    ):
        return stream
    if codecs.lookup(stream.encoding).name == "ascii":
        # click writes UTF-8 into a stream that calls itself ASCII.
        stream.reconfigure(encoding=_ASCII, errors=STAND_INS)
    else:
        stream.reconfigure(errors=STAND_INS)
    return stream


def stand_in(error: UnicodeError) -> tuple[str, int]:
    """The handler of what an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_alike(letter) for letter in error.object[error.start : error.end]), error.end


def _alike(letter: str) -> str:
    if letter in _ALIKE:
        return _ALIKE[letter]
    code = ord(letter)
    if 0x2500 <= code < 0x2580:  # frames
        return "+"
    if 0x2580 <= code < 0x25A0 or 0x2800 <= code < 0x2900:  # bars, dots
        return " " if letter in "\u2800" else "." if letter in "░▁▂" else "#"
    return letter.encode("ascii", "backslashreplace").decode("ascii")


def _named(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != _ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        streamreader=plain.streamreader,
        streamwriter=plain.streamwriter,
        incrementalencoder=plain.incrementalencoder,
        incrementaldecoder=plain.incrementaldecoder,
        name=_ASCII,
    )
