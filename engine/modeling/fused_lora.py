"""Adapters formed together with the frozen layer they sit on, in place of PEFT's separate product, scaling and sum.

PEFT computes y + B(A(x)) * s: two tensors as wide as the output come and go forward, and another one backward, for a
product of rank r. Here B's product is formed first, scaled as it is written, and the frozen product is added into it.
The input gradients of base and adapter are added as they are formed. What is kept for the backward pass is the same: x
and A(x).

The output is formed last, in a function of its own that keeps nothing: torch stops recomputing a checkpointed layer
when all that its backward pass needs is there again, so the layer's last product (a quarter of it) is never repeated.
4-bit matrices are dequantized for a product and dropped after it (`four_bit.py`). Layers with one input are formed
together (`joint_lora.py`).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F

from engine.modeling.frozen import bias_of, is_frozen_product, weight_of
from engine.modeling.joint_lora import Group, groups_of, raise_low

ADAPTER = "default"
_GROUP = "_tunedeck_group"


class _Adapter(torch.autograd.Function):
    """x [..., in], A [r, in], B [out, r] -> the output of layer and adapter [..., out], without memory yet, and A x.

    `_Complete` fills it. All that the backward pass of both needs is kept here, before anything as wide as the output
    exists, and that whole backward pass is here: it forms the frozen layer's input gradient too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, base: torch.nn.Module, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ a.T
        ctx.save_for_backward(rows, low, a, b)
        ctx.base, ctx.scale, ctx.shape = base, scale, x.shape
        ctx.mark_non_differentiable(low)
        ctx.set_materialize_grads(False)
        return x.new_empty(1).expand(*x.shape[:-1], b.shape[0]), low

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_low = (gradient @ b).mul_(ctx.scale)
        to_a, to_b = to_low.T @ rows, (gradient.T @ low).mul_(ctx.scale)
        # In a recomputed layer nothing else holds the input now: its gradient, as large, takes its place.
        del rows
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ weight_of(ctx.base, gradient.dtype)).addmm_(to_low, a).view(ctx.shape)
        return to_x, to_a, to_b, None, None


class _Complete(torch.autograd.Function):
    """The output that `_Adapter` announced: s B A x + bias, and the frozen product of x added to it. Keeps nothing."""

    @staticmethod
    def forward(
        ctx: Any,
        announced: torch.Tensor,
        low: torch.Tensor,
        x: torch.Tensor,
        b: torch.Tensor,
        base: torch.nn.Module,
        scale: float,
    ) -> torch.Tensor:
        output = x.new_empty(announced.shape)
        rows = output.view(-1, output.shape[-1])
        raise_low(low, b, bias_of(base), scale, rows)
        rows.addmm_(x.reshape(-1, x.shape[-1]), weight_of(base, x.dtype).T)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0], None, None, None, None, None


class _AddLora(torch.autograd.Function):
    """Into a base's output [..., out], in place: for bases whose product is not a plain one (int8)."""

    @staticmethod
    def forward(
        ctx: Any, result: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ a.T
        result.view(-1, result.shape[-1]).addmm_(low, b.T, alpha=scale)
        ctx.mark_dirty(result)
        ctx.save_for_backward(rows, low, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_low = (gradient @ b).mul_(ctx.scale)
        to_x = (to_low @ a).view(ctx.shape) if ctx.needs_input_grad[1] else None
        return gradients[0], to_x, to_low.T @ rows, (gradient.T @ low).mul_(ctx.scale), None


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
    known = not args and not any(value is not None for value in kwargs.values())
    if not known or self.disable_adapters or self.merged or x.dtype != a.dtype or torch.is_autocast_enabled():
        found: torch.Tensor = type(self).forward(self, x, *args, **kwargs)
        return found
    group: Group | None = self.__dict__.get(_GROUP)
    # A compiled layer would be traced anew for each group.
    if group is not None and not torch.compiler.is_compiling():
        joint = group.output(self, x)
        if joint is not None:
            return joint
    base, scale = self.base_layer, self.scaling[ADAPTER]
    if is_frozen_product(base, x):
        announced, low = _Adapter.apply(x, a, b, base, scale)
        completed: torch.Tensor = _Complete.apply(announced, low, x.detach(), b.detach(), base, scale)
        return completed
    result = base(x)
    if result.dtype != a.dtype or result._base is not None:
        return result + F.linear(F.linear(x, a), b) * scale
    return _AddLora.apply(result, x, a, b, scale)


def adapted_layers(model: Any) -> list[Any]:
    """Layers that can go the fused way: one plain adapter without dropout on a linear layer."""
    return [module for module in model.modules() if _is_plain(module)]


def _is_plain(module: Any) -> bool:
    from peft.tuners.lora import LoraLayer

    if not isinstance(module, LoraLayer) or list(getattr(module, "lora_A", {})) != [ADAPTER]:
        return False
    return (
        hasattr(module.base_layer, "in_features")
        and not hasattr(module, "parameter_name")
        and ADAPTER not in module.lora_variant
        and isinstance(module.lora_dropout[ADAPTER], torch.nn.Identity)
        and module.lora_B[ADAPTER].bias is None
        and not getattr(module, "fan_in_fan_out", False)
    )


def fuse(model: Any) -> None:
    """Let every such layer take the fused way."""
    layers = adapted_layers(model)
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    for group in groups_of(model, layers, ADAPTER):
        for layer in group.layers:
            layer.__dict__[_GROUP] = group


def unfuse(model: Any) -> None:
    """Give every layer PEFT's own way back."""
    for layer in adapted_layers(model):
        layer.__dict__.pop("forward", None)
        layer.__dict__.pop(_GROUP, None)
