"""How much an answer depends on its prompt: what its likelihood gains over the same answer behind another prompt.

A model that learned only the manner of the answers, as from shuffled ones, has a lower perplexity and may have higher
scores of shared words; it gains nothing from the right prompt any more. Measured in nats a token for rows with one
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.evaluate.bootstrap import FEWEST_ROWS, Change, paired_change
from engine.inference.losses import RowLoss
from engine.inference.rows import HeldOut

SMALLEST_LOSS = 0.1
"""Share of the base's gain that must surely be lost to count against a model: a new manner shifts it a little."""


@dataclass(frozen=True, slots=True)
class Gain:
    """One row: nats that its own prompt spares its answer, over all `tokens` of it."""

    nats: float
    tokens: int


def askable(rows: Sequence[HeldOut]) -> list[int]:
    """Positions of rows with a prompt and one trained answer, the last turn."""
    return [
        number
        for number, row in enumerate(rows)
        if row.has_prompt and sum(message.train for message in row.example.messages) == 1
    ]


def mismatched(rows: Sequence[HeldOut]) -> list[HeldOut]:
    """For each of `askable`, its answer behind the prompt of the next one; empty where there are too few."""
    chosen = [rows[number] for number in askable(rows)]
    if len(chosen) < FEWEST_ROWS:
        return []
    others = [*chosen[1:], chosen[0]]
    return [
        HeldOut(replace(row.example, messages=(*other.example.messages[:-1], row.example.messages[-1])))
        for row, other in zip(chosen, others, strict=True)
    ]


def gains(own: Sequence[RowLoss], other: Sequence[RowLoss]) -> list[Gain]:
    """What each answer gains; both hold the losses of the same answers. One that was cut differently says nothing."""
    return [
        Gain(theirs.nll - ours.nll, ours.tokens) if ours.tokens == theirs.tokens else Gain(0.0, 0)
        for ours, theirs in zip(own, other, strict=True)
    ]


def change_of(base: Sequence[Gain], tuned: Sequence[Gain]) -> Change | None:
    """Tuned less base in nats a token; None where too few rows tell."""
    pairs = [(one, other) for one, other in zip(base, tuned, strict=True) if one.tokens]
    if len(pairs) < FEWEST_ROWS:
        return None
    tokens = [one.tokens for one, _ in pairs]
    return paired_change("relevance", [one.nats for one, _ in pairs], [other.nats for _, other in pairs], tokens)


def is_lost(change: Change, base: Sequence[Gain]) -> bool:
    """Whether more than SMALLEST_LOSS of what the base gained is surely gone."""
    return change.high < -SMALLEST_LOSS * max(per_token(base), 0.0) and change.high < 0


def per_token(found: Sequence[Gain]) -> float:
    """Nats a token over all rows."""
    tokens = sum(gain.tokens for gain in found)
    return sum(gain.nats for gain in found if gain.tokens) / tokens if tokens else 0.0
