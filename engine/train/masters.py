"""fp32 masters of 16-bit weights, around any optimizer.

A bf16 weight cannot take an update below 2^-9 of its size, and a bf16 second moment with beta2 = 0.999
never decays. So weights and gradients stay 16-bit for speed and memory, while masters and moments are
fp32: with AdamW 16 bytes per trained parameter, as fp32 training takes, with 16-bit activations.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from engine.memory.shape import STEP_PORTION_BYTES

Groups = list[dict[str, Any]]
PROCESSOR_PORTION_BYTES = 8 * 1024 * 1024
"""`STEP_PORTION_BYTES` on a processor: small enough for malloc to hand the same memory out again, without new pages."""


class Masters(torch.optim.Optimizer):
    """Put before an optimizer's class: it works on fp32 copies of `groups`' 16-bit parameters, written back after
    each step.

    `param_groups` hold the masters, so that learning-rate schedules work unchanged.
    """

    def __init__(self, groups: Groups, **options: Any) -> None:
        self._weights: list[torch.Tensor] = [weight for group in groups for weight in group["params"]]
        masters = iter(self._copied(self._weights))
        super().__init__([{**group, "params": [next(masters) for _ in group["params"]]} for group in groups], **options)
        self._masters: list[torch.Tensor] = [master for group in self.param_groups for master in group["params"]]
        self._portions = _portions(self._weights, self._masters)

    def _copied(self, weights: list[torch.Tensor]) -> list[torch.Tensor]:
        return [weight.detach().float().clone() for weight in weights]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of masters and weights from the weights' gradients.

        In portions, so that at most `STEP_PORTION_BYTES` of fp32 gradients exist at once: all of them
        together would cost four bytes a parameter. Optimizers pass over masters without a gradient.
        """
        result = None
        for weights, masters in self._portions:
            result = self._step_each(weights, masters, closure)
        return result

    def _step_each(self, weights: list[torch.Tensor], masters: list[torch.Tensor], closure: Any = None) -> Any:
        for weight, master in zip(weights, masters, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
        result = super().step(closure)
        torch._foreach_copy_(weights, masters)
        for master in masters:
            master.grad = None
        return result

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the weights' gradients."""
        for weight in self._weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state with the masters, without which a resumed run would differ."""
        return {**super().state_dict(), "masters": [master.detach() for master in self._masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore states and masters; the weights themselves come with the model."""
        state = dict(state_dict)
        masters = state.pop("masters")
        super().load_state_dict(state)
        for master, saved in zip(self._masters, masters, strict=True):
            master.copy_(saved)


def _portions(
    weights: list[torch.Tensor], masters: list[torch.Tensor]
) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Weights with their masters, split so that each part's masters take at most a portion."""
    parts: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    room: float = 0
    for weight, master in zip(weights, masters, strict=True):
        size = 4 * weight.numel()
        if size > room or not parts:
            parts.append(([], []))
            room = min(STEP_PORTION_BYTES, PROCESSOR_PORTION_BYTES if weight.device.type == "cpu" else math.inf)
        parts[-1][0].append(weight)
        parts[-1][1].append(master)
        room -= size
    return parts
