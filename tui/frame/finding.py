"""What the palette finds: entries of every kind, and those that some words mean, best first. Pure functions.

Where entries come from: `finds.py` beside each screen, joined in `tui.commands`. Not here: the palette (`palette.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from textual.content import Content

from tui.text import clip, fit, line

if TYPE_CHECKING:
    from tui.frame.deck import Deck

KIND_CELLS = 9
_LEAST_LETTERS = 3
"""Of a word that is only looked for letter by letter."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to go to or to do. All texts are safe to show."""

    kind: str
    """`command`, `setting`, `run`, `model` or `file`."""
    label: str
    about: str
    go: Callable[[Deck], object]
    aside: bool = False
    """Leaves an open field as it is."""
    lowered: str = field(init=False)
    found_in: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lowered", self.label.lower())
        object.__setattr__(self, "found_in", f"{self.kind} {self.label} {self.about}".lower())


Source = Callable[["Deck"], list[Entry]]
"""Lists entries; called in a thread, so it may read files."""


def ranked(entries: Sequence[Entry], text: str) -> list[Entry]:
    """The entries that have all words of `text`, best first; else those with its letters in order."""
    words = text.lower().split()
    if not words:
        return [entry for entry in entries if entry.kind == "command"]
    found = [(_score(entry, words), entry) for entry in entries if all(word in entry.found_in for word in words)]
    if not found and len(words[0]) >= _LEAST_LETTERS:
        letters = "".join(words)
        found = [(0.0, entry) for entry in entries if _in_order(letters, entry.lowered)]
    return [entry for _, entry in sorted(found, key=lambda one: -one[0])]


def _score(entry: Entry, words: list[str]) -> float:
    """How much of the label the words are, those at its beginning most."""
    score = 0.0
    for word in words:
        at = entry.lowered.find(word)
        if word == entry.kind:
            score += 5
        elif at == 0:
            score += 4
        elif at > 0:
            score += 2 + (not entry.lowered[at - 1].isalnum())
    return score + sum(map(len, words)) / (len(entry.label) + 1)


def _in_order(letters: str, text: str) -> bool:
    rest = iter(text)
    return all(letter in rest for letter in letters)


def entry_row(entry: Entry, label_cells: int, width: int, current: bool) -> Content:
    """A row: mark, kind, label, what is known of it."""
    room = max(0, width - 2 - KIND_CELLS - label_cells - 1)
    plain = "" if current else "dim"
    return line(
        "> " if current else "  ",
        (fit(entry.kind, KIND_CELLS), plain),
        (fit(entry.label, label_cells), "" if current else "bold"),
        " ",
        (fit(clip(entry.about, room), room), plain),
    )


def told(entries: Sequence[Entry], found: int, text: str, gathering: bool) -> str:
    """The line below the field: what there is, how much of it is found, or that nothing is."""
    if text.strip():
        return f"{found} found" if found else "looking …" if gathering else f"nothing matches '{text.strip()}'"
    if gathering:
        return "looking for runs, models and files …"
    numbers = Counter(entry.kind for entry in entries)
    kinds = ("command", "setting", "run", "model", "file")
    return ", ".join(f"{numbers[kind]} {kind}{'' if numbers[kind] == 1 else 's'}" for kind in kinds)
