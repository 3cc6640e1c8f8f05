"""Several calls, tools or arguments, seen one after the other, as one piece that stands for each of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from engine.export.ollama.pieces import Each, Inexpressible, Numbered, Piece, Pieces, Slot, common, joined, whole_at
from engine.export.ollama.probe import TOOLS

_ROLE = Slot("role")


def compressed(seen: Sequence[Pieces]) -> list[Pieces]:
    """With one piece for the calls of a message, the arguments of a call, the tools. Raises Inexpressible."""
    with_arguments = [_arguments(pieces) for pieces in seen]
    between = _between(with_arguments)
    return [_tools(_calls(pieces, between)) for pieces in with_arguments]


def _arguments(pieces: Pieces) -> Pieces:
    """Arguments that are written one by one: key, value, key, value of each call."""
    made: list[Piece] = list(pieces)
    at = 0
    while at < len(made):
        piece = made[at]
        if isinstance(piece, Numbered) and isinstance(piece.slot, Slot) and piece.slot.kind in ("key", "value"):
            end = _end_of_arguments(made, at)
            each = _pair(made[at:end])
            first, *after = _turned(made, at, each, made[end:])
            made = [*made[:at], Numbered(piece.call, first), *after]  # type: ignore[arg-type]
        at += 1
    return joined(made)


def _end_of_arguments(pieces: Sequence[Piece], at: int) -> int:
    """Behind the last key or value of the call that begins at `at`."""
    first = pieces[at]
    assert isinstance(first, Numbered)
    places = [
        place
        for place, piece in enumerate(pieces)
        if isinstance(piece, Numbered)
        and piece.call == first.call
        and isinstance(piece.slot, Slot)
        and piece.slot.kind in ("key", "value")
    ]
    return places[-1] + 1


def _pair(pieces: Sequence[Piece]) -> Each:
    """What both arguments of a call are written as. Raises Inexpressible where they differ."""
    slots = [place for place, piece in enumerate(pieces) if isinstance(piece, Numbered)]
    if len(slots) % 2:
        raise Inexpressible("arguments of calls are written in several ways")
    half = len(slots) // 2
    first, second = pieces[: slots[half - 1] + 1], pieces[slots[half] :]
    one, other = ([each.slot if isinstance(each, Numbered) else each for each in part] for part in (first, second))
    if one != other:
        raise Inexpressible("arguments of calls are written in several ways")
    items = tuple("assistant" if each == _ROLE else each for each in one)
    return Each("arguments", items, _text(pieces[slots[half - 1] + 1 : slots[half]]))


def _groups(pieces: Pieces) -> list[tuple[int, list[Piece]]]:
    """Runs of the pieces of one call each: (number, from its first slot to its last)."""
    places: dict[int, list[int]] = {}
    for at, piece in enumerate(pieces):
        if isinstance(piece, Numbered):
            places.setdefault(piece.call, []).append(at)
    return [(places[call][0], list(pieces[places[call][0] : places[call][-1] + 1])) for call in sorted(places)]


def _between(seen: Sequence[Pieces]) -> str:
    """The text between two calls, the same wherever there are two."""
    found = set()
    for pieces in seen:
        for (at, items), (next_at, _) in itertools.pairwise(_groups(pieces)):
            found.add(_text(pieces[at + len(items) : next_at]))
    if len(found) > 1:
        raise Inexpressible("calls of one message are joined in several ways")
    return found.pop() if found else ""


def _text(pieces: Sequence[Piece]) -> str:
    if any(not isinstance(piece, str) and piece != _ROLE for piece in pieces):
        raise Inexpressible("something else stands between the calls or arguments of a message")
    return "".join(piece if isinstance(piece, str) else "assistant" for piece in pieces)


def _calls(pieces: Pieces, between: str) -> Pieces:
    groups = _groups(pieces)
    if not groups:
        return pieces
    made = [tuple(each.slot if isinstance(each, Numbered) else each for each in items) for _, items in groups]
    if len(set(made)) > 1:
        raise Inexpressible("calls of one message are written in several ways")
    first, (last, items) = groups[0][0], groups[-1]
    own = tuple("assistant" if each == _ROLE else each for each in made[0])
    before = list(pieces)
    turned = _turned(before, first, Each("calls", own, between), pieces[last + len(items) :])
    return joined([*before[:first], *turned])


def _turned(pieces: list[Piece], at: int, each: Each, after: Sequence[Piece]) -> list[Piece]:
    """`each` and what follows, with the marks around each put inside where they stand around every one.

    The text before it, in `pieces`, loses what is put inside.
    """
    head = pieces[at - 1] if at else ""
    tail = after[0] if after else ""
    if not isinstance(head, str) or not isinstance(tail, str):
        return [each, *after]
    between = each.between
    for shared in range(common(head[::-1], between[::-1]), 0, -1):
        opening, rest = between[len(between) - shared :], between[: len(between) - shared]
        fits = tail.startswith(rest) and whole_at(tail, len(rest))
        if fits and whole_at(head, len(head) - shared) and whole_at(between, len(rest)):
            break
    else:
        return [each, *after]
    pieces[at - 1] = head[: len(head) - shared]
    return [Each(each.over, joined([opening, *each.items, rest])), tail[len(rest) :], *after[1:]]  # type: ignore[arg-type]


def _tools(pieces: Pieces) -> Pieces:
    """Tools that are written one by one: the marks of all stand in a row with one text between."""
    places = [at for at, piece in enumerate(pieces) if isinstance(piece, Slot) and piece.kind in ("tool", "function")]
    if not places:
        return pieces
    if len(places) != len(TOOLS) or places[1] - places[0] > 2:
        raise Inexpressible("tools are written in pieces")
    between = pieces[places[0] + 1] if places[1] - places[0] == 2 else ""
    each = Each("tools", (pieces[places[0]],), between)  # type: ignore[arg-type]
    return joined([*pieces[: places[0]], each, *pieces[places[-1] + 1 :]])
