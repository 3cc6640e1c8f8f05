"""How sure it is that one evaluation of a run is better than another: batches resampled, the same for both.

The held-out rows are the same each time and so are their batches, so the difference is paired, as between base and
tuned (`engine.evaluate.bootstrap`).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.evaluate.bootstrap import FEWEST_ROWS, Change, paired_change


@dataclass(frozen=True, slots=True)
class Scored:
    """One evaluation batch by batch: summed loss and the tokens, pairs or answers that it is over."""

    step: int
    losses: tuple[float, ...]
    items: tuple[int, ...]

    @property
    def loss(self) -> float:
        """The mean over all items."""
        return sum(self.losses) / max(sum(self.items), 1)


def difference(before: Scored | None, after: Scored) -> Change | None:
    """`after` less `before` per item with its 95 % interval; None where too few batches or other rows tell nothing."""
    if before is None or before.items != after.items or before.step == after.step:
        return None
    counted = [place for place, count in enumerate(after.items) if count]
    if len(counted) < FEWEST_ROWS:
        return None
    return paired_change(
        "loss",
        [before.losses[place] for place in counted],
        [after.losses[place] for place in counted],
        [after.items[place] for place in counted],
        better=-1,
    )


def told(best: Scored, last: Scored, change: Change) -> str:
    """What to say at a run's end where the best evaluation is not surely better than the last; empty where it is."""
    if change.low > 0:
        return ""
    return (
        f"the best evaluation (step {best.step}, {best.loss:.4f}) and the last (step {last.step}, {last.loss:.4f})"
        f" differ by {change.delta:.2g} [{change.low:.2g}, {change.high:.2g}]: that could be chance;"
        " the best one's weights are kept all the same"
    )
