"""Adapters added into the output of their layer, in place of PEFT's separate product, scaling and sum.

PEFT computes y + B(A(x)) * s: two tensors as wide as the output come and go forward, and another one backward, for a
product of rank r. Here B's product is added into y (`addmm_`), s is applied to the r columns of A's, and the input
gradients of a frozen base and of the adapter are added as they are formed. What is kept for the backward pass is the
same: x and A(x). Switched on by `train.assembly`, after `train.acceleration` held it against PEFT's own path.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F

ADAPTER = "default"


class _LoraLinear(torch.autograd.Function):
    """x [..., in], frozen weight [out, in] and bias, A [r, in], B [out, r] -> [..., out]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ a.T
        result = F.linear(rows, weight, bias).addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return result.view(*x.shape[:-1], result.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, weight, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_low = (gradient @ b).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ weight).addmm_(to_low, a).view(ctx.shape)
        return to_x, None, None, to_low.T @ rows, (gradient.T @ low).mul_(ctx.scale), None


class _AddLora(torch.autograd.Function):
    """Into a base's output [..., out], in place: for bases whose product is not a plain one."""

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
    base, scale = self.base_layer, self.scaling[ADAPTER]
    if type(base) is torch.nn.Linear and not any(each.requires_grad for each in base.parameters()):
        return _LoraLinear.apply(x, base.weight, base.bias, a, b, scale)
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
        and ADAPTER not in module.lora_variant
        and isinstance(module.lora_dropout[ADAPTER], torch.nn.Identity)
        and module.lora_B[ADAPTER].bias is None
        and not getattr(module, "fan_in_fan_out", False)
    )


def fuse(model: Any) -> None:
    """Let every such layer take the fused way."""
    for layer in adapted_layers(model):
        layer.forward = MethodType(_forward, layer)


def unfuse(model: Any) -> None:
    """Give every layer PEFT's own way back."""
    for layer in adapted_layers(model):
        layer.__dict__.pop("forward", None)
