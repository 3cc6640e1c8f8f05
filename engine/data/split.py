"""Holding examples out for validation, so that no exact duplicate stands on both sides.

The choice depends on seed and content only: reordering or appending rows moves as few examples as
possible.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from engine.data.examples import Example

Sides = tuple[list[Example], list[Example]]


def split_examples(examples: Sequence[Example], keys: Sequence[bytes], fraction: float, seed: int) -> Sides:
    """(train, validation), each in the given order; about `fraction` of the rows are held out. `keys` of the examples.

    At least one content is held out and one stays when there are two different ones; with fewer, or
    fraction 0, validation is empty.
    """
    counts = Counter(keys)
    if fraction <= 0 or len(counts) < 2:
        return list(examples), []
    wanted = max(1, round(fraction * len(examples)))
    ordered = sorted(counts, key=lambda key: _salted(key, seed))
    held: set[bytes] = set()
    rows = 0
    for key in ordered[:-1]:
        if rows >= wanted:
            break
        held.add(key)
        rows += counts[key]
    return _parted(examples, [key in held for key in keys])


def split_part(examples: Sequence[Example], keys: Sequence[bytes], fraction: float, seed: int) -> Sides:
    """As `split_examples`, for a part of many rows: whoever's salted digest is among the lowest `fraction` of all
    digests is held out, whatever the other parts hold."""
    border = int(fraction * 2**128).to_bytes(16, "big")
    return _parted(examples, [_salted(key, seed) < border for key in keys])


class HeldRows:
    """Holds out exactly `wanted` of all rows, part by part: those whose salted digests are the lowest of all.

    Rows that were held and are no longer among the lowest come back into training. Equal rows stay together, and at
    least one content stays to train on. Memory holds the rows held out, however many come by.
    """

    def __init__(self, wanted: int, seed: int) -> None:
        self._wanted, self._seed = wanted, seed
        self._held: dict[bytes, tuple[bytes, list[Example]]] = {}
        self._rows = 0
        self._border: bytes | None = None
        """The lowest digest that was given back: it and all above it are trained on."""

    def add(self, examples: Sequence[Example], keys: Sequence[bytes]) -> list[Example]:
        """The rows of this part, and earlier ones, that are trained on."""
        trained: list[Example] = []
        for example, key in zip(examples, keys, strict=True):
            held = self._held.get(key)
            if held is None:
                salted = _salted(key, self._seed)
                if self._border is not None and salted >= self._border:
                    trained.append(example)
                    continue
                held = self._held[key] = (salted, [])
            held[1].append(example)
            self._rows += 1
        return trained + self._given_back()

    def finish(self) -> Sides:
        """The last rows to train on, and those held out, once everything was added."""
        if self._border is not None or not self._held:
            return [], self._examples()
        last = max(self._held, key=lambda key: self._held[key][0])
        return self._held.pop(last)[1], self._examples()

    def _given_back(self) -> list[Example]:
        found: list[Example] = []
        if self._rows <= self._wanted:
            return found
        for key in sorted(self._held, key=lambda key: self._held[key][0], reverse=True):
            count = len(self._held[key][1])
            if self._rows - count < self._wanted:
                break
            salted, examples = self._held.pop(key)
            self._border, self._rows = salted, self._rows - count
            found += examples
        return found

    def _examples(self) -> list[Example]:
        return [example for _, examples in self._held.values() for example in examples]


def _salted(key: bytes, seed: int) -> bytes:
    return hashlib.blake2b(key, digest_size=16, salt=seed.to_bytes(8, "little")).digest()


def _parted(examples: Sequence[Example], is_held: Sequence[bool]) -> Sides:
    pairs = list(zip(examples, is_held, strict=True))
    return [example for example, held in pairs if not held], [example for example, held in pairs if held]
