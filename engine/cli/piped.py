"""Questions from a pipe, one a line: a line that is no text is refused alone, and the others are answered."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from engine.cli.common import print_json_line, problem_line
from engine.errors import EngineError, ExitCode

_SHOWN_CHARS = 200


class Refused(EngineError):
    """A question that the model cannot take; the next one may be answered."""


class Refusals:
    """Lines that were not answered; each is told as it comes."""

    def __init__(self, *, as_json: bool) -> None:
        self.count = 0
        self._as_json = as_json

    def tell(self, prompt: str, error: EngineError) -> None:
        """Say why this question has no answer."""
        self.count += 1
        if self._as_json:
            print_json_line({"prompt": prompt, "error": error.to_dict()})
        else:
            click.echo(f"refused: {problem_line(error)}", err=True)


def questions(refusals: Refusals, stream: Any = None) -> Iterator[str]:
    """Lines of standard input that hold something; one that cannot be read as text goes to `refusals`."""
    source: Any = sys.stdin if stream is None else stream
    encoding = _encoding(getattr(source, "encoding", None))
    for number, raw in enumerate(_lines(getattr(source, "buffer", source)), 1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 and encoding == "utf-8" else encoding).strip()
        except UnicodeDecodeError as error:
            refusals.tell(raw.decode("utf-8", "replace").strip()[:_SHOWN_CHARS], _no_text(number, raw, error))
            continue
        if text:
            yield text


def _encoding(name: str | None) -> str:
    """The terminal's encoding; UTF-8 where it says ASCII, which is a part of it, or nothing."""
    found = codecs.lookup(name).name if name else "utf-8"
    return "utf-8" if found in ("ascii", "utf-8") else found


def _lines(source: BinaryIO) -> Iterator[bytes]:
    while raw := source.readline():
        yield raw


def _no_text(number: int, raw: bytes, error: UnicodeDecodeError) -> EngineError:
    found = raw[error.start]
    return EngineError(
        f"it is not {error.encoding.upper().removesuffix('-SIG')}: byte 0x{found:02x} at place {error.start + 1}",
        code=ExitCode.DATA,
        where=f"line {number}",
        hint="convert what you pipe, for example with 'iconv -f latin1 -t utf-8'",
    )
