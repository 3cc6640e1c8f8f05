"""Losses over documents that are compared or judged: DPO, ORPO, KTO. Plain functions of log-probabilities.

TRL's trainers have the same losses over padded batches; these take packed ones, whose shape never changes, and
are held against TRL's formulas in the tests. Sums over the items of a batch; `objective.py` calls them.
Sources: DPO arXiv 2305.18290, eq. 7; ORPO arXiv 2403.07691, eq. 6 and 7; KTO arXiv 2402.01306, eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True)
class Outcome:
    """A batch's summed loss, and what both sides were rewarded with, one number a document [n]."""

    loss: torch.Tensor
    preferred: torch.Tensor
    other: torch.Tensor


def dpo(
    chosen: torch.Tensor, rejected: torch.Tensor, reference: tuple[torch.Tensor, torch.Tensor], beta: float
) -> Outcome:
    """Log-probabilities of both answers [n] under the model, and under the base (`reference`)."""
    better, worse = beta * (chosen - reference[0]), beta * (rejected - reference[1])
    return Outcome(-F.logsigmoid(better - worse).sum(), better.detach(), worse.detach())


def orpo(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> Outcome:
    """Mean log-probabilities a token of both answers [n]: likelihood of the chosen, and odds against the rejected."""
    odds = (chosen - rejected) - (_log1m(chosen) - _log1m(rejected))
    loss = (-chosen - beta * F.logsigmoid(odds)).sum()
    return Outcome(loss, beta * chosen.detach(), beta * rejected.detach())


def reward(chosen: torch.Tensor, rejected: torch.Tensor) -> Outcome:
    """Scores of both answers [n]: the better one has the higher score (Bradley-Terry; arXiv 2203.02155, eq. 1)."""
    return Outcome(-F.logsigmoid(chosen - rejected).sum(), chosen.detach(), rejected.detach())


def kto(desired: torch.Tensor, undesired: torch.Tensor, mismatched: torch.Tensor, beta: float) -> Outcome:
    """Log-ratios of model to base: of good answers, of bad ones, and of mismatched ones (the reference point)."""
    point = mismatched.detach().mean().clamp(min=0) if len(mismatched) else desired.new_zeros(())
    gain, pain = torch.sigmoid(beta * (desired - point)), torch.sigmoid(beta * (point - undesired))
    loss = (1 - gain).sum() + (1 - pain).sum()
    return Outcome(loss, beta * desired.detach(), beta * undesired.detach())


def _log1m(log_probability: torch.Tensor) -> torch.Tensor:
    """log(1 - p) from log p, where p may be near 1."""
    return torch.log1p(-torch.exp(log_probability.clamp(max=-1e-6)))
