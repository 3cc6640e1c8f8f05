"""Find rows that repeat an earlier row, with eight bytes a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Seen:
    """Hashes of earlier rows. At 64 bits, 1 of 300,000 sets of ten million rows has a chance collision."""

    def __init__(self) -> None:
        self._hashes: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def mark(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Add the keys; for each, whether it was there before or stands earlier in `keys`. [n]"""
        hashes = _short(keys)
        distinct, firsts = np.unique(hashes, return_index=True)
        repeated = np.ones(len(hashes), dtype=np.bool_)
        repeated[firsts] = False
        known = self._among(hashes)
        new = distinct[~self._among(distinct)]
        # Two sorted runs: a stable sort merges them.
        self._hashes = np.sort(np.concatenate([self._hashes, new]), kind="stable")
        return known | repeated

    def count(self, keys: Sequence[bytes]) -> int:
        """How many of the keys were marked before."""
        return int(self._among(_short(keys)).sum())

    def _among(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not len(self._hashes):
            return np.zeros(len(hashes), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        known: NDArray[np.bool_] = self._hashes[places] == hashes
        return known


def _short(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(key[:8] for key in keys), dtype="<u8").astype(np.uint64)
