"""What a template writes, cut into fixed text and slots for what a conversation holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias


class Inexpressible(Exception):
    """The chat template does what a Go template of ours cannot do; the text says what.

    `of_tools`: no template with tools or calls can be written.
    """

    def __init__(self, text: str, *, of_tools: bool = False) -> None:
        super().__init__(text)
        self.of_tools = of_tools


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for content, thinking, system, role, tool_name, call_id, tools, functions; in a call: name, arguments,
    id, and key and value of one argument; of one tool: tool, function.

    `form` is how the value is written: `raw`, a name of CONTENT_FORMS (blanks taken away), or a form of JSON.
    """

    kind: str
    form: str = "raw"


@dataclass(frozen=True, slots=True)
class Each:
    """Every call of a message, every tool, or every argument of a call: what one is written as, and the text between
    two."""

    over: Literal["calls", "tools", "arguments"]
    items: tuple[str | Slot | Each, ...]
    between: str = ""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A slot of the call with this number: until all calls of a message are one piece."""

    call: int
    slot: Slot | Each


Piece: TypeAlias = str | Slot | Each | Numbered
Pieces: TypeAlias = tuple[Piece, ...]


def joined(pieces: Iterable[Piece]) -> Pieces:
    """The same with neighboring texts as one, and none that is empty."""
    made: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and made and isinstance(made[-1], str):
            made[-1] += piece
        elif piece != "":
            made.append(piece)
    return tuple(made)


def common(one: str, other: str) -> int:
    """How many characters both begin with."""
    size = 0
    while size < min(len(one), len(other)) and one[size] == other[size]:
        size += 1
    return size


def whole_at(text: str, at: int) -> bool:
    """Whether a cut there leaves words and marks whole."""
    if at in (0, len(text)):
        return True
    before, after = text[at - 1], text[at]
    return before in ">]}" or after in "<[{" or not (_in_mark(before) and _in_mark(after))


def _in_mark(char: str) -> bool:
    return char.isalnum() or char in "<>[]|{}/_=#-"
