"""Stand-in for compiled flex attention on tensors without data: what is kept and made is its own, to the byte.

Read in torch 2.13: `_higher_order_ops/flex_attention.py` keeps query, key, value, output and one fp32 normalizer a row;
the compiled backward pass forms a row sum and gradients for the key heads as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from engine.modeling import attention, attention_flex


@contextmanager
def flex_on_meta() -> Iterator[None]:
    """Let soft-capped attention run on the meta device, through flex attention as on a card that compiles it."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(attention_flex, "_flex", _flex_itself))
        stack.enter_context(mock.patch.object(attention_flex, "_blocks", _no_blocks))
        stack.enter_context(mock.patch.object(attention, "_flex_differs", _nothing))
        yield


def _flex_itself() -> Any:
    return _flex


def _no_blocks(*_: Any) -> None:
    return None


def _nothing(*_: Any) -> str:
    return ""


def _flex(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> torch.Tensor:
    out: torch.Tensor = _Flex.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out


class _Flex(torch.autograd.Function):
    """[1, H, T, D] and [1, KV, T, D] twice -> [1, H, T, D]."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(query)
        normalizer = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, normalizer)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, _, normalizer = ctx.saved_tensors
        sums = torch.empty_like(normalizer)
        found = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del sums
        return found
