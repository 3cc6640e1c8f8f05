"""Where documents lie in a packed batch, and in which runs the memory-efficient kernel takes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from engine.memory.device import UNEVEN_SHARE, efficient_block


@dataclass(frozen=True, slots=True)
class Documents:
    """Where documents lie in a batch of `rows` x `length` tokens, flattened."""

    offsets: torch.Tensor
    """int32 [documents + 1], on the device."""
    longest: int
    rows: int
    length: int
    lengths: tuple[int, ...] = ()
    """Of each document, where the host knows them; a kernel that needs them takes all in one call otherwise."""

    @property
    def one_a_row(self) -> bool:
        """Whether every row is exactly one document; known from sizes alone."""
        return self.offsets.shape[0] - 1 == self.rows and self.longest == self.length


@dataclass(frozen=True, slots=True)
class Run:
    """Documents that follow each other and go through one call of the memory-efficient kernel."""

    first: int
    end: int
    tokens: slice
    longest: int

    def offsets(self, documents: Documents) -> torch.Tensor:
        """Where they begin, counted from the first."""
        if self.tokens == slice(None):
            return documents.offsets
        return documents.offsets[self.first : self.end + 1] - self.tokens.start


def runs_of(documents: Documents, width: int) -> tuple[Run, ...]:
    """All documents in runs of similar length.

    The kernel's backward pass gives each document of a call as many blocks of fp32 rows as the longest has: one long
    document among a hundred short ones would take a hundred times its share. In a run it takes at most
    `UNEVEN_SHARE` times what its documents' own blocks would. Packed rows have their longest documents first.
    """
    lengths, count = documents.lengths, documents.offsets.shape[0] - 1
    if len(lengths) != count or sum(lengths) != documents.rows * documents.length:
        return (Run(0, count, slice(None), documents.longest),)
    return _cut(lengths, efficient_block(width))


@lru_cache(maxsize=8)
def _cut(lengths: tuple[int, ...], block: int) -> tuple[Run, ...]:
    """The runs of documents of these lengths: every layer asks for the same ones, forward and backward."""
    found: list[Run] = []
    first = start = at = own = most = longest = 0
    for number, length in enumerate(lengths):
        rows = -(-length // block) * block
        if number > first and (number + 1 - first) * max(most, rows) > UNEVEN_SHARE * (own + rows):
            found.append(Run(first, number, slice(start, at), longest))
            first, start, own, most, longest = number, at, 0, 0, 0
        at, own, most, longest = at + length, own + rows, max(most, rows), max(longest, length)
    if not found:
        return (Run(0, len(lengths), slice(None), longest),)
    return (*found, Run(first, len(lengths), slice(start, at), longest))
