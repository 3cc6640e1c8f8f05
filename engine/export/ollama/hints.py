"""What Ollama looks for in a template to find thoughts and calls in answers, put where it finds it.

Ollama takes the text at the first branch on `.ToolCalls` for the mark of a call, and the first and last text around
the last `.Thinking` inside a loop over messages for the marks of a thought. Branches that nothing enters say both.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.export.ollama.learn import Rule, Split
from engine.export.ollama.pieces import Each, Pieces, Slot


def leaves(rule: Rule) -> Iterator[Pieces]:
    """What a rule may write."""
    if isinstance(rule, Split):
        yield from leaves(rule.yes)
        yield from leaves(rule.no)
    else:
        yield rule


def mark_of_calls(message: Rule, end: Rule) -> str | None:
    """What an answer writes before the first call, `{` for JSON without a mark; None where no answer calls."""
    begun = [text for pieces in leaves(end) for text in pieces if isinstance(text, str)]
    for pieces in leaves(message):
        for number, piece in enumerate(pieces):
            if isinstance(piece, Each) and piece.over == "calls":
                head = _text_before(pieces, number, piece)
                for text in begun:
                    head = head.rpartition(text)[2]
                return head.partition("{")[0].strip() or "{"
    return None


def _text_before(pieces: Pieces, number: int, calls: Each) -> str:
    first = calls.items[0]
    if isinstance(first, str):
        return first
    parts = []
    for piece in reversed(pieces[:number]):
        if isinstance(piece, Slot) and piece.kind == "role":
            parts.append("assistant")
        elif isinstance(piece, str):
            parts.append(piece)
        else:
            break
    return "".join(reversed(parts))


def marks_of_thoughts(message: Rule) -> tuple[str, str] | None:
    """The words around a thought; None where there is none, or no words."""
    for pieces in leaves(message):
        for number, piece in enumerate(pieces):
            if isinstance(piece, Slot) and piece.kind == "thinking" and 0 < number < len(pieces) - 1:
                before, after = pieces[number - 1], pieces[number + 1]
                if isinstance(before, str) and isinstance(after, str) and before.split() and after.split():
                    return before.split()[-1], after.split()[0]
    return None


def calls_are_json(message: Rule) -> bool:
    """Whether arguments are one JSON object, which alone Ollama finds in an answer."""
    return not any(
        isinstance(item, Each)
        for pieces in leaves(message)
        for piece in pieces
        if isinstance(piece, Each) and piece.over == "calls"
        for item in piece.items
    )
