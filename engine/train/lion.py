"""Lion: the sign of an interpolated momentum as the update (arXiv 2302.06675, algorithm 2)."""

from __future__ import annotations

from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """One moment a weight, half of AdamW's two. Usual learning rates are a third to a tenth of AdamW's."""

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            rate, decay = group["lr"], 1.0 - group["lr"] * group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["betas"], rate, decay)
        return None

    def _update(self, weight: torch.Tensor, betas: tuple[float, float], rate: float, decay: float) -> None:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if not state:
            state["exp_avg"] = torch.zeros_like(weight)
        moment = state["exp_avg"]
        update = moment.lerp(gradient, 1.0 - betas[0]).sign_()
        weight.mul_(decay).add_(update, alpha=-rate)
        moment.lerp_(gradient, 1.0 - betas[1])
