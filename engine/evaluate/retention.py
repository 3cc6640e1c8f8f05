"""What a model could do before: its loss on general text outside the task, and how much of it tuning lost.

Texts are the person's (`evaluate.retention_path`) or the built-in ones (`retention.jsonl`, written for this package).
Of those, only passages count that the base can read; of the person's own, all. Scored by
`measure.py`, judged by `compare.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.data.chat import bos_text
from engine.data.examples import Example, Message
from engine.evaluate.bootstrap import FEWEST_ROWS, Change, paired_change
from engine.evaluate.report import GroupLoss, RetentionFigures
from engine.evaluate.scripts import count_letters
from engine.inference.encode import EncodedRows, encode_rows
from engine.inference.losses import Encoded, RowLoss
from engine.inference.rows import HeldOut

BUILT_IN = Path(__file__).with_name("retention.jsonl")
RISE_BOUND = 0.1
"""Nats a token that the loss may rise: ten per cent more perplexity. By the fit of Hoffmann et al. 2022 (406.4 / N^0.34
of N parameters) half the size costs as much at one billion, 0.05 at seven billion and 0.19 at 135 million."""
UNREADABLE_BITS = 2.14
"""Bits a letter of English when nothing but the frequency of words is known (Shannon 1951): a base that needs more
does not know the language, and has nothing there to forget."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Passages with the group of each. `found`: how many there were to choose from; `vouched`: all of them count."""

    source: str
    rows: list[HeldOut]
    groups: list[str]
    found: int
    vouched: bool


@dataclass(frozen=True, slots=True)
class Retention:
    """The outcome. `change` is tuned less base in nats a token, None where too little counts or nothing is beside."""

    source: str
    passages: int
    counted: int
    found: int
    tokens: int
    base: float | None
    tuned: float | None
    change: Change | None
    groups: dict[str, GroupLoss] = field(default_factory=dict)

    @property
    def forgetting(self) -> bool | None:
        """Whether the loss surely rose by more than the bound; None where that cannot be told."""
        return None if self.change is None else self.change.low > RISE_BOUND

    def figures(self) -> RetentionFigures:
        """The same for the report."""
        change = self.change
        return RetentionFigures(
            source=self.source,
            passages=self.passages,
            counted=self.counted,
            found=self.found,
            tokens=self.tokens,
            base=self.base,
            tuned=self.tuned,
            rise=None if change is None else change.delta,
            interval=None if change is None else (change.low, change.high),
            bound=RISE_BOUND,
            forgetting=self.forgetting,
            groups=self.groups,
        )


def built_in() -> Kept:
    """The passages that come with the package."""
    lines = [json.loads(line) for line in BUILT_IN.read_text(encoding="utf-8").splitlines()]
    rows = [passage(line["text"], number) for number, line in enumerate(lines, 1)]
    return Kept("built-in texts", rows, [line["kind"] for line in lines], len(rows), vouched=False)


def passage(text: str, row: int) -> HeldOut:
    """Plain text as a row."""
    return HeldOut(Example((Message("assistant", text, True),), row, "text"))


def encode_kept(kept: Kept, tokenizer: Any, max_length: int) -> EncodedRows:
    """Tokens of the passages: plain text from its first word to its last, conversations as training sees them.

    No end mark is scored: tuning on answers teaches where to end, which says nothing about what was known before.
    """
    texts = [number for number, row in enumerate(kept.rows) if row.example.kind == "text"]
    chats = [number for number, row in enumerate(kept.rows) if row.example.kind != "text"]
    encoded = EncodedRows([], [], {}, cut=0, too_long=0)
    if chats:
        rows = [kept.rows[number] for number in chats]
        encoded = encode_rows(rows, tokenizer, max_length=max_length, room_tokens=0)
        encoded = replace(encoded, owners=[chats[owner] for owner in encoded.owners], prompts={}, too_long=0)
    if not texts:
        return encoded
    before = bos_text(tokenizer)
    whole = [before + kept.rows[number].reference for number in texts]
    ids = tokenizer(whole, add_special_tokens=False, verbose=False).input_ids
    documents = [Encoded(tuple(one[:max_length]), tuple(one[:max_length])) for one in ids]
    cut = encoded.cut + sum(len(one) > max_length for one in ids)
    return replace(encoded, documents=[*encoded.documents, *documents], owners=[*encoded.owners, *texts], cut=cut)


def judge(kept: Kept, base: Sequence[RowLoss], tuned: Sequence[RowLoss] = ()) -> Retention:
    """Loss on the passages that count; `tuned` is empty where one model alone was measured."""
    counts = [
        bool(loss.tokens) and (kept.vouched or _readable(row, loss)) for row, loss in zip(kept.rows, base, strict=True)
    ]
    chosen = [number for number, one in enumerate(counts) if one]
    # A tokenizer of its own cuts the same text into other tokens: the rise is taken over the base's.
    tokens = [base[number].tokens for number in chosen]
    change = None
    if tuned and len(chosen) >= FEWEST_ROWS:
        before, after = ([losses[number].nll for number in chosen] for losses in (base, tuned))
        change = paired_change("retention", before, after, tokens, better=-1)
    groups = {
        name: _group([number for number in chosen if kept.groups[number] == name], kept.groups.count(name), base, tuned)
        for name in dict.fromkeys(kept.groups)
    }
    before_after = _group(chosen, len(kept.rows), base, tuned)
    return Retention(
        kept.source,
        len(kept.rows),
        len(chosen),
        kept.found,
        sum(tokens),
        before_after.base,
        before_after.tuned,
        change,
        groups,
    )


def _group(numbers: list[int], of: int, base: Sequence[RowLoss], tuned: Sequence[RowLoss]) -> GroupLoss:
    """Loss a token of these passages, for both models."""
    tokens = sum(base[number].tokens for number in numbers)

    def per_token(losses: Sequence[RowLoss]) -> float | None:
        return math.fsum(losses[number].nll for number in numbers) / tokens if tokens and losses else None

    return GroupLoss(of, len(numbers), per_token(base), per_token(tuned))


def _readable(row: HeldOut, loss: RowLoss) -> bool:
    """Whether the base knows more of the language than the frequency of its words."""
    return loss.nll / math.log(2) <= UNREADABLE_BITS * count_letters(row.reference)


def with_forgetting(word: str, reason: str, found: Retention | None) -> tuple[str, str]:
    """The verdict on the task, and what tuning cost elsewhere."""
    if found is None or found.change is None or not found.forgetting:
        return word, reason
    low, high = found.change.low, found.change.high
    lost = (
        f"the loss on other text rose by {found.change.delta:.2f} nats a token [{low:.2f}, {high:.2f}],"
        f" more than {RISE_BOUND:g}"
    )
    joined = "but" if word == "better" else "and"
    return f"{word}, {joined} forgetting", f"{reason}; {lost}"
