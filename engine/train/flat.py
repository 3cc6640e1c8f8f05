"""AdamW over fp32 masters that lie end to end: one cast, one update and one copy back for hundreds of tensors.

An adapter set has some 450 small matrices. Taken one by one, a step costs the host milliseconds and the device as many
launches; here each portion of `masters.py` is one buffer of masters and one of each moment, and the tensors that the
optimizer knows are views of them. AdamW treats every value alone, so the numbers are the same, and so are states on
disk: one entry a tensor.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.adamw import adamw

from engine.train.masters import Groups, Masters, _portions


@dataclass(slots=True)
class _Slab:
    """Weights of one parameter group within one portion, and their masters end to end."""

    group: int
    weights: list[torch.Tensor]
    views: list[torch.Tensor]
    """The masters one by one: what the optimizer knows as its parameters."""
    master: torch.Tensor
    moments: list[torch.Tensor] = field(default_factory=list)
    """First and second moment end to end; empty before the first step."""
    steps: list[torch.Tensor] = field(default_factory=list)
    """The one count of steps done, as long as all weights have done the same."""


class MasterAdamW(Masters, torch.optim.AdamW):
    """AdamW over flat fp32 masters."""

    def __init__(self, groups: Groups, **options: Any) -> None:
        self._buffers: list[torch.Tensor] = []
        super().__init__(groups, **options)
        self._slabs = self._cut()

    def _copied(self, weights: list[torch.Tensor]) -> list[torch.Tensor]:
        """Masters as views of one buffer a portion."""
        found = []
        for part, _ in _portions(weights, weights):
            buffer = torch.empty(sum(each.numel() for each in part), dtype=torch.float32, device=part[0].device)
            views = _views(buffer, part)
            torch._foreach_copy_(views, [weight.detach() for weight in part])
            self._buffers.append(buffer)
            found += views
        return found

    def _cut(self) -> list[list[_Slab]]:
        """The portions, each as one slab for every group that has a part in it."""
        group_of = {id(master): number for number, group in enumerate(self.param_groups) for master in group["params"]}
        found = []
        for buffer, (weights, masters) in zip(self._buffers, self._portions, strict=True):
            slabs, start = [], 0
            pairs = zip(weights, masters, strict=True)
            for group, members in itertools.groupby(pairs, key=lambda pair: group_of[id(pair[1])]):
                ours, views = (list(side) for side in zip(*members, strict=True))
                end = start + sum(view.numel() for view in views)
                slabs.append(_Slab(group, ours, views, buffer[start:end]))
                start = end
            found.append(slabs)
        return found

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of masters and weights from the weights' gradients, a portion at a time."""
        result = None if closure is None else torch.enable_grad()(closure)()
        for slabs, (weights, masters) in zip(self._slabs, self._portions, strict=True):
            for slab in slabs:
                self._begin(slab)
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if len(gradients) == len(weights) and all(slab.steps for slab in slabs):
                self._step_flat(slabs, gradients)
                torch._foreach_copy_(weights, masters)
            else:
                self._part_ways(slabs)
                self._step_each(weights, masters)
        return result

    def _step_flat(self, slabs: list[_Slab], gradients: list[torch.Tensor]) -> None:
        whole = torch.empty(sum(each.numel() for each in gradients), dtype=torch.float32, device=gradients[0].device)
        torch._foreach_copy_(_views(whole, gradients), gradients)
        for slab, gradient in zip(slabs, whole.split([slab.master.numel() for slab in slabs]), strict=True):
            group, (first, second) = self.param_groups[slab.group], slab.moments
            adamw(
                [slab.master],
                [gradient],
                [first],
                [second],
                [],
                slab.steps,
                foreach=group["foreach"],
                fused=group["fused"],
                found_inf=getattr(self, "found_inf", None),
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _begin(self, slab: _Slab) -> None:
        """Moments of zeros before the first step, under the names that torch gives them."""
        if slab.moments:
            return
        fused = bool(self.param_groups[slab.group]["fused"])
        # torch keeps the count of a fused optimizer on its device, as a flag there may take a step back.
        slab.steps = [torch.zeros((), dtype=torch.float32, device=slab.master.device if fused else "cpu")]
        slab.moments = [torch.zeros_like(slab.master) for _ in range(2)]
        first, second = (_views(moment, slab.views) for moment in slab.moments)
        for view, one, two in zip(slab.views, first, second, strict=True):
            self.state[view] = {"step": slab.steps[0], "exp_avg": one, "exp_avg_sq": two}

    def _part_ways(self, slabs: list[_Slab]) -> None:
        """A weight without a gradient stands still: from here on each counts its own steps."""
        for slab in slabs:
            for view in slab.views if slab.steps else ():
                self.state[view]["step"] = slab.steps[0].clone()
            slab.steps = []

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore states and masters, from a checkpoint of this class or of a per-tensor AdamW over masters."""
        super().load_state_dict(state_dict)
        for slab in itertools.chain.from_iterable(self._slabs):
            self._take_in(slab)

    def _take_in(self, slab: _Slab) -> None:
        """The loaded states of each tensor, end to end."""
        loaded = [dict(self.state.pop(view, {})) for view in slab.views]
        slab.moments, slab.steps = [], []
        if not any(loaded):
            return
        self._begin(slab)
        if len({float(each["step"]) if each else 0.0 for each in loaded}) > 1:
            self._part_ways([slab])
        for view, each in zip(slab.views, loaded, strict=True):
            for name, value in each.items():
                self.state[view][name].copy_(value)


def _views(flat: torch.Tensor, like: list[torch.Tensor]) -> list[torch.Tensor]:
    """`flat` cut into tensors of the shapes of `like`."""
    parts = flat.split([each.numel() for each in like])
    return [part.view(each.shape) for part, each in zip(parts, like, strict=True)]
