"""The rule behind what was seen: which circumstances decide what a template writes for a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.export.ollama.observe import Seen
from engine.export.ollama.pieces import Inexpressible, Pieces


@dataclass(frozen=True, slots=True)
class Split:
    """Two rules: `yes` where the fact has this value."""

    fact: str
    value: str | bool
    yes: Rule
    no: Rule


Rule: TypeAlias = Split | Pieces


def rule_of(seen: Sequence[Seen]) -> Rule:
    """The smallest decisions that tell everything seen apart. Raises Inexpressible where none does."""
    kinds = {one.pieces for one in seen}
    if len(kinds) == 1:
        return seen[0].pieces
    best: tuple[float, int, str, str | bool] | None = None
    for number, fact in enumerate(seen[0].facts):
        for value in dict.fromkeys(one.facts[fact] for one in seen):
            if value is False or (isinstance(value, bool) and len({one.facts[fact] for one in seen}) == 1):
                continue
            cost = _cost(seen, fact, value)
            if cost is not None and (best is None or (cost, number) < best[:2]):
                best = (cost, number, fact, value)
    if best is None:
        raise Inexpressible("what it writes for a message depends on more than the messages around it")
    _, _, fact, value = best
    yes = [one for one in seen if one.facts[fact] == value]
    no = [one for one in seen if one.facts[fact] != value]
    return Split(fact, value, rule_of(yes), rule_of(no))


def _cost(seen: Sequence[Seen], fact: str, value: str | bool) -> int | None:
    """How many kinds are left on both sides; None where the fact tells nothing apart."""
    yes = {one.pieces for one in seen if one.facts[fact] == value}
    no = {one.pieces for one in seen if one.facts[fact] != value}
    return len(yes) + len(no) if yes and no else None
