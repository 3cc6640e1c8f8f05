"""How sure a difference between base and tuned is: paired bootstrap intervals, and the verdict.

Rows are resampled with replacement, the same rows for both models (Koehn 2004; Efron's percentile
interval). Pure numpy; nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.evaluate.report import FEWEST_ROWS as FEWEST_ROWS

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Change:
    """Tuned less base of one score, with its 95 % interval; `better` is the sign that counts as a gain."""

    name: str
    delta: float
    low: float
    high: float
    better: int = 1

    @property
    def direction(self) -> int:
        """1 = surely better, -1 = surely worse, 0 = the interval holds zero."""
        if self.low > 0:
            return self.better
        return -self.better if self.high < 0 else 0


def paired_change(
    name: str,
    base: Sequence[float],
    tuned: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    better: int = 1,
    seed: int = 0,
) -> Change:
    """Change of sum(score) / sum(weight) over rows, with its interval.

    `base` and `tuned` hold one number a row; `weights` (default 1 each) makes a ratio, so that summed log
    likelihoods weighted by their tokens give the token-weighted mean. Raises ValueError for no rows.
    """
    difference = np.asarray(tuned, dtype=np.float64) - np.asarray(base, dtype=np.float64)
    if not difference.size:
        raise ValueError("no rows to compare")
    weight = np.ones_like(difference) if weights is None else np.asarray(weights, dtype=np.float64)
    generator = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, _BLOCK_CELLS // difference.size))
    found: list[np.ndarray] = []
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        picks = generator.integers(0, difference.size, size=(count, difference.size))
        found.append(difference[picks].sum(axis=1) / weight[picks].sum(axis=1))
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Change(name, float(difference.sum() / weight.sum()), float(low), float(high), better)


def verdict(changes: Sequence[Change], rows: int, names: Mapping[str, str]) -> tuple[str, str]:
    """(`better`, `no different`, `worse` or `not measured`; why) from the scores that decide.

    Better needs a sure gain in one score and a sure loss in none, so a model that learned the manner of
    the answers but not their content is not called better. `names` says how each score reads.
    """
    if not rows:
        return "not measured", "no score of single rows was asked for, or no row has what it scores"
    if rows < FEWEST_ROWS:
        are = "1 row is" if rows == 1 else f"{rows} rows are"
        return "no different", f"{are} too few to tell; use at least {FEWEST_ROWS}"
    gains = [names.get(change.name, change.name) for change in changes if change.direction > 0]
    losses = [names.get(change.name, change.name) for change in changes if change.direction < 0]
    if gains and losses:
        return "no different", f"{', '.join(gains)} better, {', '.join(losses)} worse"
    if gains:
        return "better", f"{', '.join(gains)} better beyond chance (95 % of resamples), nothing worse"
    if losses:
        return "worse", f"{', '.join(losses)} worse beyond chance (95 % of resamples), nothing better"
    return "no different", "every difference could be chance (95 % of resamples)"
