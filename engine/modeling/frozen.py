"""The product of a frozen linear layer, plain or 4-bit, as adapters use it: its matrix, and adding it in place."""

from __future__ import annotations

from typing import Any

import torch

from engine.modeling import four_bit


def is_frozen_product(base: torch.nn.Module, x: torch.Tensor) -> bool:
    """Whether `base` is a plain or a 4-bit product, none of whose weights learn."""
    if any(each.requires_grad for each in base.parameters()):
        return False
    return type(base) is torch.nn.Linear or four_bit.takes(base, x)


def weight_of(base: torch.nn.Module, dtype: torch.dtype) -> torch.Tensor:
    """The frozen matrix [out, in] as `dtype`; a 4-bit one is dequantized."""
    weight: torch.Tensor = base.weight  # type: ignore[assignment]
    return weight if type(base) is torch.nn.Linear else four_bit.dequantized(weight, dtype)


def bias_of(base: torch.nn.Module) -> torch.Tensor | None:
    """The layer's bias, if it has one."""
    found: torch.Tensor | None = base.bias  # type: ignore[assignment]
    return found


class _AddProduct(torch.autograd.Function):
    """Keeps nothing, so that a checkpointed layer's last product is not repeated when the layer is recomputed."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, x: torch.Tensor, base: torch.nn.Module) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        output.view(-1, output.shape[-1]).addmm_(rows, weight_of(base, rows.dtype).T)
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0], None, None


def add_product(output: torch.Tensor, x: torch.Tensor, base: torch.nn.Module) -> torch.Tensor:
    """`output` [..., out] with the frozen product of x [..., in] added in place; x, detached, gets no gradient here.

    Whoever made `output` forms the input's gradient.
    """
    found: torch.Tensor = _AddProduct.apply(output, x, base)
    return found
