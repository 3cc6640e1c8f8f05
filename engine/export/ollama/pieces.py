"""What a template writes, cut into fixed text and slots for what a conversation holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for content, thinking, system, role, tool_name, call_id, tools, functions; in a call: name, arguments,
    id; of one tool: tool, function.

    `form` is how the value is written: `raw`, `trim`, `left`, `right` (blanks taken away), or a form of JSON.
    """

    kind: str
    form: str = "raw"


@dataclass(frozen=True, slots=True)
class Each:
    """Every call of a message, or every tool: what one is written as, and the text between two."""

    over: Literal["calls", "tools"]
    items: tuple[str | Slot, ...]
    between: str = ""


Piece: TypeAlias = str | Slot | Each
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
