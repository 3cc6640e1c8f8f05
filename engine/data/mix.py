"""Data sets by weight: how often the rows of each are seen in an epoch. Deterministic by seed.

Called by `prepare.py` on the documents of the training side.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from engine.data.accounts import Account
from engine.data.encode import Document
from engine.data.examples import Example


def weigh(account: Account, documents: Sequence[Document], examples: Sequence[Example]) -> list[Document]:
    """`documents` as often as `data.datasets[].weight` says; the shares become a note for the report.

    A weight of 2.3 takes every row twice and a random 30 % of the rows a third time. Which rows depends on
    seed and content alone, so that adding rows to a file moves no others.
    """
    weights = {number: dataset.weight for number, dataset in enumerate(account.settings.data.datasets)}
    if all(weight == 1.0 for weight in weights.values()):
        return list(documents)
    salt = account.settings.train.seed.to_bytes(8, "little")
    times = {
        number: _times(examples[number], weights[examples[number].dataset], salt)
        for number in {document.example for document in documents}
    }
    taken = [document for document in documents for _ in range(times[document.example])]
    account.shares = _shares(taken, documents, examples, weights)
    return taken


def _times(example: Example, weight: float, salt: bytes) -> int:
    whole = int(weight)
    digest = hashlib.blake2b(example.key + example.row.to_bytes(8, "little"), digest_size=8, salt=salt).digest()
    return whole + (int.from_bytes(digest, "little") < (weight - whole) * 2**64)


def _shares(
    taken: Sequence[Document], given: Sequence[Document], examples: Sequence[Example], weights: dict[int, float]
) -> dict[int, str]:
    """Data set -> `weight 0.3: 31 of 100 documents, 12.4 % of the tokens`."""
    before = Counter(examples[document.example].dataset for document in given)
    after = Counter(examples[document.example].dataset for document in taken)
    tokens: Counter[int] = Counter()
    for document in taken:
        tokens[examples[document.example].dataset] += len(document.ids)
    whole = max(1, tokens.total())
    return {
        number: f"weight {weights[number]:g}: {after[number]} documents of {before[number]},"
        f" {tokens[number] / whole:.1%} of the tokens"
        for number in before
    }
