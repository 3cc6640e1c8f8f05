"""No optimizer step from a loss or a gradient that is not finite: it is skipped, weights and moments stay.

On a GPU the decision is made there (fused AdamW takes a `found_inf` flag, as gradient scaling uses it) and read
with the next log line, so that no step waits for the device; elsewhere it is read at once and the step finds no
gradients. fp16 has its own rule: the scaler skips and lowers its scale. Used by the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

MAX_BAD_STEPS = 3
"""Steps in a row without a finite gradient after which the run stops."""


@dataclass(frozen=True, slots=True)
class BadSteps:
    """Since the last question: how many steps were skipped, and the longest row of them up to now."""

    skipped: int
    in_a_row: int


class StepGuard:
    """Watches losses and gradient norms of one run's steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self._on_device = device.type == "cuda" and bool(optimizer.defaults.get("fused"))
        self._bad = torch.zeros((), device=device)
        self._skipped, self._row, self._longest = (torch.zeros((), device=device) for _ in range(3))

    def saw(self, value: Any) -> None:
        """A loss or gradient norm of the step that is under way."""
        tensor = torch.as_tensor(value, device=self._bad.device).detach()
        self._bad = torch.maximum(self._bad, (~tensor.isfinite()).to(self._bad.dtype))

    def before_step(self) -> None:
        """All gradients are there: let the step happen or not."""
        bad, self._bad = self._bad, torch.zeros_like(self._bad)
        self._skipped = self._skipped + bad
        self._row = (self._row + 1) * bad
        self._longest = torch.maximum(self._longest, self._row)
        if self._on_device:
            self._optimizer.found_inf = bad  # type: ignore[attr-defined]
        elif bool(bad):
            self._optimizer.zero_grad()

    def take(self) -> BadSteps:
        """What happened since the last call; waits for the device."""
        found = BadSteps(int(self._skipped), int(self._longest))
        self._skipped, self._longest = torch.zeros_like(self._skipped), self._row.clone()
        return found
