"""Stand-ins for Liger's kernels on tensors without data: what is kept, made and returned is theirs, to the byte.

Triton launches on a GPU only. A model that `engine.modeling.liger` bound calls kernels by that module's names, which
`kernels_on_meta` replaces while a step is simulated. Read in liger-kernel 0.8.5, `ops/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from engine.modeling import liger

MULTIPROCESSORS = 132
"""Of an H100: the gradient of a trained norm's weight is summed in one fp32 row for each."""


@contextmanager
def kernels_on_meta() -> Iterator[None]:
    """Let bound models run on the meta device."""
    stand_ins = (rms_norm, rotate, silu_mul, silu_mul_joined, gelu_mul, cross_entropy_)
    with ExitStack() as stack:
        for stand_in in stand_ins:
            stack.enter_context(mock.patch.object(liger, stand_in.__name__, stand_in))
        yield


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, in_place: bool) -> torch.Tensor:
        rows = x.contiguous().view(-1, x.shape[-1])
        out = torch.empty_like(rows)
        scales = torch.empty(rows.shape[0], dtype=torch.float32, device=x.device)
        ctx.save_for_backward(*(each for each in (rows, weight, scales) if each is not None))
        ctx.in_place = in_place
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        partial = None
        if ctx.needs_input_grad[1]:
            partial = gradient.new_empty((MULTIPROCESSORS, gradient.shape[-1]), dtype=torch.float32)
        to_x = gradient if ctx.in_place else torch.zeros_like(gradient)
        # The weight is kept second, where there is one.
        to_weight = None if partial is None else partial.sum(dim=0).to(ctx.saved_tensors[1].dtype)
        return to_x, to_weight, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(cos.contiguous(), sin.contiguous())
        return _tokens_first(query), _tokens_first(key)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _tokens_first(gradients[0]), _tokens_first(gradients[1]), None, None


def _tokens_first(heads: torch.Tensor) -> torch.Tensor:
    """[B, H, S, D], copied where it does not lie as [B, S, H, D] in memory."""
    return heads.transpose(1, 2).contiguous().transpose(1, 2)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate.view(-1, gate.shape[-1]), up.view(-1, up.shape[-1]))
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        shape = gradients[0].contiguous().shape
        return gate.view(shape), up.view(shape)


class _JoinedGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        gate_up = gate_up.contiguous()
        ctx.save_for_backward(gate_up)
        return gate_up.new_empty((gate_up.shape[0], gate_up.shape[1] // 2))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        gradients[0].contiguous()
        (gate_up,) = ctx.saved_tensors
        found: torch.Tensor = gate_up
        return found


def _call(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None, eps: float, offset: float, casting: str, in_place: bool
) -> torch.Tensor:
    """For `liger.rms_norm`."""
    out: torch.Tensor = _call(_Norm, x, weight, in_place)
    return out


def rotate(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For `liger.rotate`."""
    query, key = _call(_Rotation, query, key, cos, sin)
    return query, key


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """For `liger.silu_mul`."""
    out: torch.Tensor = _call(_Gate, gate, up)
    return out


def silu_mul_joined(gate_up: torch.Tensor) -> torch.Tensor:
    """For `liger.silu_mul_joined`."""
    rows: torch.Tensor = _call(_JoinedGate, gate_up.flatten(0, -2))
    return rows.view(*gate_up.shape[:-1], rows.shape[-1])


def gelu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """For `liger.gelu_mul`."""
    return silu_mul(gate, up)


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor, softcap: float, gradient: bool = True) -> torch.Tensor:
    """For `liger.cross_entropy_`."""
    return torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
