"""The fused experts of a mixture, with frozen weights in 16 or 4 bit and adapters that may sit on them.

transformers keeps all experts of a layer in two stacked parameters. Its own product of them keeps the dense stack for
the backward pass, and PEFT's adapters add a dense change to it. Here a stack is dequantized for one product and dropped
after it, once forward and once backward, and adapters multiply the few rows that each expert meets: nothing as large as
a stack is kept or formed for them.

The rows' way to their experts and back is transformers' (`integrations/moe.py`, grouped_mm_experts_forward).
Not here: quantizing while a model is loaded (`experts_load.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import MethodType
from typing import Any
from unittest import mock

import torch

from engine.modeling import four_bit

STACKS = ("gate_up_proj", "down_proj")
"""Names of the two stacked parameters, in the order in which PEFT wraps them."""
ADAPTER = "default"
_ALIGNED_BYTES = 16
"""Rows of matrices that the grouped product takes start at multiples of this."""


def is_stack(module: Any) -> bool:
    """Whether `module` holds gated experts in two stacked parameters, as transformers lays them out."""
    parameters = getattr(module, "_parameters", {})
    known = getattr(module, "has_gate", False) and not getattr(module, "has_post_expert_norm", False)
    return known and all(_dimensions(parameters.get(name)) == len("EOI") for name in STACKS)


def _dimensions(parameter: Any) -> int:
    if parameter is None:
        return 0
    state = getattr(parameter, "quant_state", None)
    return len(state.shape) if state is not None else int(parameter.dim())


def stacks_of(model: Any) -> list[tuple[str, Any]]:
    """(name, module) of each layer's experts, by their names in the model."""
    return [(name, module) for name, module in model.named_modules() if is_stack(module)]


def is_packed(module: Any) -> bool:
    """Whether the experts of `module` are stored in 4 bit."""
    return getattr(module._parameters[STACKS[0]], "quant_state", None) is not None


@dataclass(frozen=True, slots=True)
class _Low:
    """The adapter of one stack: A [experts, r, in], B [experts, out, r]."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float


def _dense(experts: Any, name: str, dtype: torch.dtype) -> torch.Tensor:
    """The stack as [experts, out, in], dequantized where it is packed."""
    weight = experts._parameters[name]
    if getattr(weight, "quant_state", None) is not None:
        weight = four_bit.dequantized(weight, dtype)
    found: torch.Tensor = weight.detach().to(dtype)
    return found.transpose(-2, -1) if experts.is_transposed else found


def _grouped(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows times the matrix of their expert; `ends` are the ends of each expert's rows.

    With two matrices [n, rows] and [rows, m]: one product [experts, n, m] over the rows of each expert.
    """
    if _is_native(rows) and _is_native(matrices):
        found: torch.Tensor = torch.nn.functional.grouped_mm(rows, matrices, offs=ends)
        return found
    return _by_expert(rows, matrices, ends)


def _is_native(matrix: torch.Tensor) -> bool:
    if not hasattr(torch.nn.functional, "grouped_mm"):
        return False
    if not matrix.is_meta and matrix.is_cuda and not _has_kernel(matrix):
        return False
    if matrix.is_meta and matrix.dtype != torch.bfloat16:
        return False
    strides = [matrix.stride(-2), matrix.stride(-1)]
    return min(strides) == 1 and max(strides) * matrix.element_size() % _ALIGNED_BYTES == 0


def _has_kernel(matrix: torch.Tensor) -> bool:
    return torch.cuda.get_device_capability(matrix.device) >= (8, 0) and matrix.dtype == torch.bfloat16


def _by_expert(rows: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    if rows.is_meta:
        stacked = matrices.dim() == len("EOI")
        shape = (rows.shape[0],) if stacked else (ends.shape[0], rows.shape[0])
        return rows.new_empty((*shape, matrices.shape[-1]))
    borders = [0, *ends.tolist()]
    spans = list(pairwise(borders))
    if matrices.dim() == len("EOI"):
        out = rows.new_zeros((rows.shape[0], matrices.shape[-1]))
        for index, (start, end) in enumerate(spans):
            torch.mm(rows[start:end], matrices[index], out=out[start:end])
        return out
    return torch.stack([rows[:, start:end] @ matrices[start:end] for start, end in spans])


class _Product(torch.autograd.Function):
    """Rows [rows, in], sorted by expert, times the frozen stack of their experts; keeps only where they end."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, ends: torch.Tensor, experts: Any, name: str) -> torch.Tensor:
        ctx.save_for_backward(ends)
        ctx.experts, ctx.name = experts, name
        return _grouped(rows, _dense(experts, name, rows.dtype).transpose(-2, -1), ends)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (ends,) = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return _grouped(gradient, _dense(ctx.experts, ctx.name, gradient.dtype), ends), None, None, None


class _AdaptedProduct(torch.autograd.Function):
    """The same with B A x of each expert's adapter added; keeps the rows and A x."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        ends: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        experts: Any,
        name: str,
    ) -> torch.Tensor:
        low = _grouped(rows, a.transpose(-2, -1), ends)
        ctx.save_for_backward(rows, low, ends, a, b)
        ctx.experts, ctx.name, ctx.scale = experts, name, scale
        out = _grouped(rows, _dense(experts, name, rows.dtype).transpose(-2, -1), ends)
        return out.add_(_grouped(low, b.transpose(-2, -1), ends), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, ends, a, b = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        to_low = _grouped(gradient, b, ends).mul_(ctx.scale)
        to_a = _grouped(to_low.t(), rows, ends)
        to_b = _grouped(gradient.t(), low, ends).mul_(ctx.scale)
        del rows
        to_rows = _grouped(gradient, _dense(ctx.experts, ctx.name, gradient.dtype), ends)
        to_rows.add_(_grouped(to_low, a, ends))
        return to_rows, None, to_a, to_b, None, None, None


def _multiplied(rows: torch.Tensor, ends: torch.Tensor, experts: Any, name: str, low: _Low | None) -> torch.Tensor:
    if low is None:
        plain: torch.Tensor = _Product.apply(rows, ends, experts, name)
        return plain
    adapted: torch.Tensor = _AdaptedProduct.apply(
        rows, ends, low.a.to(rows.dtype), low.b.to(rows.dtype), low.scale, experts, name
    )
    return adapted


def _with_bias(output: torch.Tensor, experts: Any, name: str, owners: torch.Tensor) -> torch.Tensor:
    return output + getattr(experts, f"{name}_bias")[owners] if experts.has_bias else output


def _expert_output(
    experts: Any, lows: dict[str, _Low], hidden: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Tokens [tokens, hidden] through their `chosen` experts [tokens, k], summed by `shares` [tokens, k]."""
    tokens, width, each = hidden.shape[0], hidden.shape[1], chosen.shape[-1]
    owners, order = torch.sort(chosen.reshape(-1))
    # histc takes whole numbers on a GPU and fractions on a processor only.
    counted = owners.float() if hidden.device.type == "cpu" else owners.int()
    counts = torch.histc(counted, bins=experts.num_experts, min=0, max=experts.num_experts - 1)
    ends = torch.cumsum(counts, dim=0, dtype=torch.int32)
    dtype = getattr(experts._parameters[STACKS[0]], "quant_state", experts._parameters[STACKS[0]]).dtype
    rows = hidden[order // each].to(dtype)
    wide = _with_bias(_multiplied(rows, ends, experts, STACKS[0], lows.get(STACKS[0])), experts, STACKS[0], owners)
    del rows
    gated = experts._apply_gate(wide)
    del wide
    out = _with_bias(_multiplied(gated, ends, experts, STACKS[1], lows.get(STACKS[1])), experts, STACKS[1], owners)
    del gated
    weighted = out * shares.reshape(-1)[order].unsqueeze(-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(order.shape[0], device=order.device)
    return weighted[back].view(tokens, each, width).sum(dim=1).to(hidden.dtype)


def _wrappers(outer: Any) -> list[Any]:
    """PEFT's wrappers around one layer's experts, the outermost first; none where they carry no adapter."""
    found = []
    while hasattr(outer, "parameter_name") and hasattr(outer, "base_layer"):
        found.append(outer)
        outer = outer.base_layer
    return found


def _low_of(wrapper: Any) -> _Low:
    """The adapter that `wrapper` holds, in the layout of PEFT's `get_delta_factors`."""
    a, b = wrapper.lora_A[ADAPTER].weight, wrapper.lora_B[ADAPTER].weight
    count = wrapper.num_experts
    # The grouped product wants each expert's matrix in one piece.
    raised = b.reshape(b.shape[0], -1, count).permute(2, 0, 1).contiguous()
    return _Low(a.reshape(count, -1, a.shape[-1]), raised, wrapper.scaling[ADAPTER])


def _forward(self: Any, hidden: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    wrappers = _wrappers(self)
    experts = wrappers[-1].base_layer if wrappers else self
    active = [each for each in wrappers if not each.disable_adapters and ADAPTER in each.lora_A and not each.merged]
    return _expert_output(experts, {each.parameter_name: _low_of(each) for each in active}, hidden, chosen, shares)


def bind(model: Any) -> int:
    """Let packed experts, and experts with adapters, take this way; returns how many layers do."""
    outer = {id(wrapper.base_layer) for module in model.modules() for wrapper in _wrappers(module)}
    count = 0
    for module in model.modules():
        wrappers = _wrappers(module)
        inner = wrappers[-1].base_layer if wrappers else module
        if id(module) in outer or not is_stack(inner) or not (wrappers or is_packed(inner)):
            continue
        module.forward = MethodType(_forward, module)
        count += 1
    return count


@contextlib.contextmanager
def as_peft_sees_them(model: Any) -> Iterator[None]:
    """While PEFT wraps `model`: packed experts have the shape of plain ones, and targets mean what their names say.

    PEFT sizes adapters by the shape; what is shown has no memory. From 0.19 on it also reads the names of linear layers
    in a mixture as names of its experts and router, with other ranks. Afterwards experts with adapters are bound.
    """
    held = _show_shapes(model)
    try:
        with _plain_names():
            yield
    finally:
        for module, name, packed in held:
            module._parameters[name] = packed
    bind(model)


def _show_shapes(model: Any) -> list[tuple[Any, str, Any]]:
    held = []
    for _, module in stacks_of(model):
        for name in STACKS:
            packed = module._parameters[name]
            state = getattr(packed, "quant_state", None)
            if state is not None:
                shown = torch.full((1, 1, 1), torch.nan, dtype=state.dtype, device=packed.device).expand(state.shape)
                module._parameters[name] = torch.nn.Parameter(shown, requires_grad=False)
                held.append((module, name, packed))
    return held


def _plain_names() -> contextlib.AbstractContextManager[Any]:
    try:
        from peft.utils import transformers_weight_conversion as conversion
    except ImportError:
        return contextlib.nullcontext()
    if not hasattr(conversion, "convert_peft_config_for_transformers"):
        return contextlib.nullcontext()
    return mock.patch.object(conversion, "convert_peft_config_for_transformers", return_value=None)


def in_words(model: Any) -> str:
    """How the experts of a model with adapters are stored, and whether they learn; empty for a dense model."""
    found = [module for _, module in stacks_of(model)]
    if not found:
        return ""
    stored = "4-bit" if is_packed(found[0]) else str(found[0]._parameters[STACKS[0]].dtype).removeprefix("torch.")
    if any(_wrappers(module) for module in model.modules()):
        return f"experts of {len(found)} layers, {stored}, carry adapters"
    return f"experts of {len(found)} layers, {stored}, stay frozen (lora.experts = true lets them learn)"


def target_names(model: Any) -> list[str]:
    """Names of all stacked parameters, as PEFT's `target_parameters` takes them."""
    return [f"{name}.{stack}" for name, _ in stacks_of(model) for stack in STACKS]
