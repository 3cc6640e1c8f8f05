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


def _salted(key: bytes, seed: int) -> bytes:
    return hashlib.blake2b(key, digest_size=16, salt=seed.to_bytes(8, "little")).digest()


def _parted(examples: Sequence[Example], is_held: Sequence[bool]) -> Sides:
    pairs = list(zip(examples, is_held, strict=True))
    return [example for example, held in pairs if not held], [example for example, held in pairs if held]
