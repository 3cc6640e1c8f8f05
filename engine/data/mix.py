"""Data sets by weight: how often an epoch repeats the rows of each. Deterministic by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from engine.data.accounts import Account
from engine.data.encode import Document
from engine.data.examples import Example
from engine.profile.schema import Profile


def weigh(account: Account, documents: Sequence[Document], examples: Sequence[Example]) -> list[Document]:
    """`documents` as often as `data.datasets[].weight` says; the shares are noted for the report.

    A weight of 2.3 takes every row twice and a random 30 % of the rows a third time. Which rows depends on
    seed and content alone, so that adding rows to a file moves no others.
    """
    settings = account.settings
    if all(dataset.weight == 1.0 for dataset in settings.data.datasets):
        return list(documents)
    times = {number: repeats(settings, examples[number]) for number in {document.example for document in documents}}
    taken = [document for document in documents for _ in range(times[document.example])]
    for document in documents:
        account.sources[examples[document.example].dataset].given_documents += 1
    for document in taken:
        source = account.sources[examples[document.example].dataset]
        source.taken_documents += 1
        source.taken_tokens += len(document.ids)
    return taken


def repeats(settings: Profile, example: Example) -> int:
    """How often an epoch takes a row to train on."""
    weight = settings.data.datasets[example.dataset].weight
    if weight == 1.0:
        return 1
    salt, whole = settings.train.seed.to_bytes(8, "little"), int(weight)
    digest = hashlib.blake2b(example.key + example.row.to_bytes(8, "little"), digest_size=8, salt=salt).digest()
    return whole + (int.from_bytes(digest, "little") < (weight - whole) * 2**64)


def shares(account: Account) -> dict[int, str]:
    """Data set -> `weight 0.3: 31 of 100 documents, 12.4 % of the tokens`; empty where no weights were given."""
    whole = max(1, sum(source.taken_tokens for source in account.sources.values()))
    return {
        number: f"weight {account.settings.data.datasets[number].weight:g}: {source.taken_documents} documents of"
        f" {source.given_documents}, {source.taken_tokens / whole:.1%} of the tokens"
        for number, source in account.sources.items()
        if source.given_documents
    }
