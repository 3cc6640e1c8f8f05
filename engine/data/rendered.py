"""A rendered document with what of it is trained on, and the account of what was met on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from engine.data.marks import OPEN, Marks
from engine.data.parts import Part


@dataclass(frozen=True, slots=True)
class Rendered:
    """One document of text. `spans` = trained (start, end) characters; `plain` = characters that must
    not become special tokens although they spell one. `parts`: thoughts, calls and results, where there are any."""

    text: str
    spans: tuple[tuple[int, int], ...]
    plain: tuple[tuple[int, int], ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(slots=True)
class MaskNotes:
    """What was met on the way, counted: notes for the report, and which tokens end an answer."""

    counts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


def unmarked(marks: Marks, document: Rendered) -> Rendered:
    """Without the private marks around what only spells a token; where that stands is remembered."""
    if OPEN not in document.text and "\\udb92" not in document.text:
        return document
    text, plain, cuts = marks.bare(document.text)
    spans = tuple((_moved(start, cuts), _moved(end, cuts)) for start, end in document.spans)
    parts = tuple(Part(_moved(one.start, cuts), _moved(one.end, cuts), one.kind) for one in document.parts)
    return Rendered(text, spans, tuple(plain), parts)


def _moved(position: int, cuts: list[int]) -> int:
    return position - sum(cut < position for cut in cuts)
