"""Adapters on layers that share one input (query, key and value; gate and up), formed as one.

Their A matrices meet the input in one product, and their input gradients add up in one buffer as they are formed,
instead of being written one by one and added afterwards. Transformers calls such layers one after the other with the
same tensor: the first call computes all of them, the others find their output waiting. Not here: a single layer
(`fused_lora.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from engine.modeling.frozen import add_product, bias_of, is_frozen_product, weight_of

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers under one parent that get the same input."""
_MOST_UNFETCHED = 3


class _JointAdapters(torch.autograd.Function):
    """x [..., in] with A_i [r_i, in], B_i [out_i, r_i] -> s_i B_i A_i x + bias_i for each i.

    `add_product` completes each output; the frozen layers' input gradient is formed here.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, bases: Sequence[torch.nn.Module], scales: Sequence[float], *pairs: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        downs, ups = pairs[::2], pairs[1::2]
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ torch.cat(downs).T
        ctx.save_for_backward(rows, low, *pairs)
        ctx.bases, ctx.scales, ctx.shape = bases, scales, x.shape
        outputs = []
        for base, scale, up, part in zip(bases, scales, ups, low.split([a.shape[0] for a in downs], 1), strict=True):
            output = x.new_empty((*x.shape[:-1], up.shape[0]))
            raise_low(part, up, bias_of(base), scale, output.view(-1, up.shape[0]))
            outputs.append(output)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | Any, ...]:
        rows, low, *pairs = ctx.saved_tensors
        downs, ups = pairs[::2], pairs[1::2]
        sizes = [a.shape[0] for a in downs]
        flat = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        to_low = torch.empty_like(low)
        for part, gradient, up, scale in zip(to_low.split(sizes, 1), flat, ups, ctx.scales, strict=True):
            torch.addmm(part, gradient, up, beta=0, alpha=scale, out=part)
        to_downs = (to_low.T @ rows).split(sizes)
        lows = low.split(sizes, 1)
        to_ups = [(flat[i].T @ lows[i]).mul_(ctx.scales[i]) for i in range(len(flat))]
        to_x = _input_gradient(ctx, flat, to_low, downs) if ctx.needs_input_grad[0] else None
        learned = [part for pair in zip(to_downs, to_ups, strict=True) for part in pair]
        return (to_x, None, None, *learned)


def _input_gradient(
    ctx: Any, gradients: Sequence[torch.Tensor], to_low: torch.Tensor, downs: Sequence[torch.Tensor]
) -> torch.Tensor:
    first, *others = zip(gradients, ctx.bases, strict=True)
    total = first[0] @ weight_of(first[1], to_low.dtype)
    for gradient, base in others:
        total.addmm_(gradient, weight_of(base, to_low.dtype))
    found: torch.Tensor = total.addmm_(to_low, torch.cat(list(downs))).view(ctx.shape)
    return found


def raise_low(low: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None, scale: float, out: torch.Tensor) -> None:
    """s B A x + bias into `out` [rows, out], from A x [rows, r]."""
    if bias is not None:
        torch.addmm(bias, low, b.T, alpha=scale, out=out)
    else:
        torch.addmm(out, low, b.T, beta=0, alpha=scale, out=out)


class Group:
    """Adapted layers with one input. `waiting` holds the outputs that were computed with the first one's."""

    def __init__(self, layers: Sequence[Any], adapter: str) -> None:
        self.layers, self.adapter = tuple(layers), adapter
        self._source: torch.Tensor | None = None
        self._waiting: dict[int, torch.Tensor] = {}
        self._unfetched = 0

    @property
    def usable(self) -> bool:
        """False once outputs went unfetched again and again: these layers do not share their input after all."""
        return self._unfetched < _MOST_UNFETCHED

    def takes(self, x: torch.Tensor) -> bool:
        """Whether every layer of the group is a frozen product with a live adapter in x's dtype."""
        return all(
            not layer.disable_adapters
            and not layer.merged
            and layer.lora_A[self.adapter].weight.dtype == x.dtype
            and is_frozen_product(layer.base_layer, x)
            for layer in self.layers
        )

    def output(self, layer: Any, x: torch.Tensor) -> torch.Tensor | None:
        """`layer`'s output for `x`, found waiting or computed now with the others'; None where it goes alone."""
        if self._source is x and id(layer) in self._waiting:
            return self._pop(layer)
        if not self.usable or not self.takes(x):
            return None
        if self._waiting:
            # A pass that broke off leaves outputs behind too.
            self._unfetched += 1
        self._compute(x)
        return self._pop(layer)

    def _pop(self, layer: Any) -> torch.Tensor:
        found = self._waiting.pop(id(layer))
        if not self._waiting:
            self._source, self._unfetched = None, 0
        return found

    def _compute(self, x: torch.Tensor) -> None:
        bases = [layer.base_layer for layer in self.layers]
        scales = [layer.scaling[self.adapter] for layer in self.layers]
        pairs = [part.weight for each in self.layers for part in (each.lora_A[self.adapter], each.lora_B[self.adapter])]
        started = _JointAdapters.apply(x, bases, scales, *pairs)
        flat = x.detach()
        outputs = [add_product(output, flat, base) for output, base in zip(started, bases, strict=True)]
        self._source = x
        self._waiting = {id(layer): output for layer, output in zip(self.layers, outputs, strict=True)}


def groups_of(model: Any, layers: Sequence[Any], adapter: str) -> list[Group]:
    """The groups of at least two of `layers` that get the same input, by their names under one parent."""
    chosen = {id(layer) for layer in layers}
    found = []
    for parent in model.modules():
        for names in SIBLINGS:
            members: list[Any] = [getattr(parent, name, None) for name in names]
            members = [member for member in members if id(member) in chosen]
            if len(members) > 1 and len({member.base_layer.in_features for member in members}) == 1:
                found.append(Group(members, adapter))
    return found
