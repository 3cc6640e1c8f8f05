"""No optimizer step from a loss or a gradient that is not finite: it is skipped, weights and moments stay.

On a GPU the decision is made there (fused AdamW takes a `found_inf` flag, as gradient scaling uses it) and read with
the next log line, so that no step waits for the device; elsewhere it is read at once and the step finds no gradients.
With gradient scaling (fp16) the scaler skips and lowers its scale: then steps are only counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

MAX_BAD_STEPS = 3
"""Steps in a row without a finite gradient after which the run stops."""


@dataclass(frozen=True, slots=True)
class BadSteps:
    """Since the last log line: steps that were skipped, the longest row of them up to now, and those of them whose
    loss was not finite."""

    skipped: int
    in_a_row: int
    losses: int

    @classmethod
    def of(cls, figures: Sequence[float]) -> BadSteps:
        """From what `StepGuard.figures` gave, read from the device."""
        skipped, in_a_row, losses = (int(value) for value in figures)
        return cls(skipped, in_a_row, losses)


class StepGuard:
    """Watches losses and gradient norms of one run's steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, *, scaled: bool = False) -> None:
        self._optimizer, self._scaled = optimizer, scaled
        self._on_device = device.type == "cuda" and bool(optimizer.defaults.get("fused"))
        self._bad_loss, self._bad_norm = (torch.zeros((), device=device) for _ in range(2))
        self._skipped, self._row, self._longest, self._losses = (torch.zeros((), device=device) for _ in range(4))

    def saw_loss(self, loss: torch.Tensor) -> None:
        """A loss of the step that is under way."""
        self._bad_loss = torch.maximum(self._bad_loss, _is_bad(loss, self._bad_loss))

    def saw_norm(self, norm: Any) -> None:
        """The norm of the whole gradient."""
        self._bad_norm = _is_bad(norm, self._bad_norm)

    def before_step(self) -> None:
        """All gradients are there: let the step happen or not."""
        bad = torch.maximum(self._bad_loss, self._bad_norm)
        self._losses = self._losses + self._bad_loss
        self._bad_loss, self._bad_norm = torch.zeros_like(bad), torch.zeros_like(bad)
        self._skipped = self._skipped + bad
        self._row = (self._row + 1) * bad
        self._longest = torch.maximum(self._longest, self._row)
        if self._scaled:
            return
        if self._on_device:
            self._optimizer.found_inf = bad  # type: ignore[attr-defined]
        elif bool(bad):
            self._optimizer.zero_grad()

    def figures(self) -> torch.Tensor:
        """What `BadSteps.of` takes, since the last call: [3], still on the device."""
        found = torch.stack([self._skipped, self._longest, self._losses])
        self._skipped, self._losses = torch.zeros_like(self._skipped), torch.zeros_like(self._losses)
        self._longest = self._row.clone()
        return found


def _is_bad(value: Any, like: torch.Tensor) -> torch.Tensor:
    return (~torch.as_tensor(value, device=like.device).detach().isfinite()).to(like.dtype)
