"""Holding examples out for validation, so that no exact duplicate stands on both sides.

The choice depends on seed and content only: reordering or appending rows moves as few examples as
possible. Called by `prepare.py`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from engine.data.examples import Example


def split_examples(examples: Sequence[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, validation), each in the given order; about `fraction` of the rows are held out.

    At least one content is held out and one stays when there are two different ones; with fewer, or
    fraction 0, validation is empty.
    """
    keys = [example.key for example in examples]
    counts = Counter(keys)
    if fraction <= 0 or len(counts) < 2:
        return list(examples), []
    wanted = max(1, round(fraction * len(examples)))
    salt = seed.to_bytes(8, "little")
    ordered = sorted(counts, key=lambda key: hashlib.blake2b(key, digest_size=16, salt=salt).digest())
    held: set[bytes] = set()
    rows = 0
    for key in ordered[:-1]:
        if rows >= wanted:
            break
        held.add(key)
        rows += counts[key]
    return (
        [example for example, key in zip(examples, keys, strict=True) if key not in held],
        [example for example, key in zip(examples, keys, strict=True) if key in held],
    )


def count_duplicates(examples: Sequence[Example]) -> int:
    """Rows whose content stood in an earlier row."""
    return len(examples) - len({example.key for example in examples})


def count_shared(train: Sequence[Example], validation: Sequence[Example]) -> int:
    """Validation rows that are also trained on."""
    seen = {example.key for example in train}
    return sum(example.key in seen for example in validation)
