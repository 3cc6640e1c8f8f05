"""The objective of a run: the loss of a packed batch, what it is divided by, and scores to tell.

The trainer asks for all three; `reference.py` gives rows the base's log-probabilities that DPO and KTO compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from engine.data.preference import CHOSEN, DESIRED, MISMATCHED, NEEDED, REJECTED, UNDESIRED
from engine.modeling import forward
from engine.profile.schema import Profile
from engine.train.objectives.preference import Outcome, dpo, kto, orpo, reward

REFERENCED = ("dpo", "kto")
"""Objectives that compare with the base."""


class Likelihood:
    """Learn the trained tokens: supervised training and pre-training."""

    def __init__(self) -> None:
        self.loss_sum = forward.loss_sum

    def __call__(self, model: Any, batch: forward.Batch) -> torch.Tensor:
        """Summed negative log likelihood."""
        return self.loss_sum(model, batch)

    def items(self, batch: forward.Batch) -> int:
        """Trained tokens, counted on the host."""
        return int(batch["items"])

    def scores(self, *, training: bool) -> dict[str, float]:
        """Numbers beside the loss since the last call; waits for the device."""
        figures = self.figures(training=training)
        return {} if figures is None else self.told(figures.tolist())

    def figures(self, *, training: bool) -> torch.Tensor | None:
        """What `told` takes, since the last call, still on the device; None without anything beside the loss."""
        return None

    def told(self, figures: Sequence[float]) -> dict[str, float]:
        """Figures, read from the device, under their names."""
        return {}


class Preference(Likelihood):
    """Compare or judge answers."""

    def __init__(self, name: str, beta: float) -> None:
        super().__init__()
        self.name, self.beta = name, beta
        self._sums: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    def __call__(self, model: Any, batch: forward.Batch) -> torch.Tensor:
        """Summed loss over pairs or judged answers."""
        losses, tokens = forward.document_losses(model, batch)
        outcome = self._outcome(-losses, tokens, batch)
        self._sums[bool(model.training)].append(_summed(outcome))
        return outcome.loss

    def items(self, batch: forward.Batch) -> int:
        """Pairs, or judged answers."""
        roles = batch["roles"]
        return int(((roles == CHOSEN) | (roles == DESIRED) | (roles == UNDESIRED)).sum())

    def figures(self, *, training: bool) -> torch.Tensor | None:
        """Sums and counts of both sides, and pairs with the better one ahead: [5]."""
        sums, self._sums[training] = self._sums[training], []
        return torch.stack(sums).sum(dim=0) if sums else None

    def told(self, figures: Sequence[float]) -> dict[str, float]:
        """Mean rewards of both sides and how often the right one is ahead."""
        better, count, worse, others, ahead = figures
        found = {"reward_preferred": better / max(count, 1), "reward_other": worse / max(others, 1)}
        if self.name != "kto":
            found |= {"reward_margin": found["reward_preferred"] - found["reward_other"], "accuracy": ahead / count}
        return found

    def _outcome(self, logps: torch.Tensor, tokens: torch.Tensor, batch: forward.Batch) -> Outcome:
        if self.name == "orpo":
            means = logps / tokens.clamp(min=1)
            return orpo(means[_with(CHOSEN, batch)], means[_with(REJECTED, batch)], self.beta)
        reference = batch["reference"].to(logps.device)
        if self.name == "dpo":
            chosen, rejected = _with(CHOSEN, batch), _with(REJECTED, batch)
            return dpo(logps[chosen], logps[rejected], (reference[chosen], reference[rejected]), self.beta)
        ratios = logps - reference
        desired, undesired, mismatched = (_with(role, batch) for role in (DESIRED, UNDESIRED, MISMATCHED))
        return kto(ratios[desired], ratios[undesired], ratios[mismatched], self.beta)


class Reward(Preference):
    """Score both answers of a pair by a head on the last token."""

    def __call__(self, model: Any, batch: forward.Batch) -> torch.Tensor:
        """Summed loss over pairs."""
        scores = forward.document_rewards(model, batch)
        outcome = reward(scores[_with(CHOSEN, batch)], scores[_with(REJECTED, batch)])
        self._sums[bool(model.training)].append(_summed(outcome))
        return outcome.loss


def objective_of(settings: Profile) -> Likelihood:
    """The objective that `train.objective` names."""
    name = settings.train.objective
    if name == "reward":
        return Reward(name, settings.train.beta)
    return Preference(name, settings.train.beta) if name in NEEDED else Likelihood()


def _with(role: int, batch: forward.Batch) -> torch.Tensor:
    """Numbers of the documents that have this role. A mask of the device's would have to be read back."""
    start = int((batch["roles"] < role).sum())
    numbers: torch.Tensor = batch["by_role"][start : start + int((batch["roles"] == role).sum())]
    return numbers


def _summed(outcome: Outcome) -> torch.Tensor:
    """Sums and counts of both sides, and pairs with the better one ahead: [5]."""
    better, worse = outcome.preferred, outcome.other
    ahead = (better > worse).sum() if len(better) == len(worse) else better.new_zeros(())
    counts = [better.new_full((), len(side)) for side in (better, worse)]
    return torch.stack([better.sum(), counts[0], worse.sum(), counts[1], ahead]).double()
