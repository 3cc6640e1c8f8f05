"""Attention sinks (gpt-oss): one learned score a head that joins the softmax's denominator and has no value.

A kernel without them gives the output and each row's log-sum-exp. Multiplied by sigmoid(lse - sink), the output is the
one with the sink; its log-sum-exp is log(e^lse + e^sink). The kernel's own backward pass, handed these two in the place
of its own, recomputes the probabilities as they are with the sink: the gradients of query, key and value come out
exact. The sink's is the sum of -p (grad . out) over the rows, p being the sink's own probability. Not here: which
kernel runs (`attention.py`, `attention_kernels.py`).
"""

from __future__ import annotations

from typing import Any

import torch


def joined(out: torch.Tensor, normalizer: torch.Tensor, share: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """Scale `out` in place by `share`, the part that the sink leaves it; returns the log-sum-exp with `sinks`."""
    out.mul_(share)
    return torch.logaddexp(normalizer, sinks)


def share_left(normalizer: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """What a row's other scores keep of the probability beside the sink."""
    return torch.sigmoid(normalizer - sinks)


def sink_gradient(grad: torch.Tensor, out: torch.Tensor, normalizer: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """Gradient of `sinks` [H]: of `grad` and `out` [T, H, D] and the log-sum-exp with them [T, H]."""
    wide = torch.promote_types(out.dtype, torch.float32)
    along = (grad.to(wide) * out).sum(dim=-1)
    return -(torch.exp(sinks - normalizer) * along).sum(dim=0)


class SinkAttention(torch.autograd.Function):
    """One document on a processor, by its flash kernel: [1, H, L, D], [1, KV, L, D] twice, [H] -> [1, H, L, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        out, normalizer = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, mask is None, attn_mask=mask, scale=scale
        )
        column = sinks.to(normalizer.dtype)[:, None]
        normalizer = joined(out, normalizer, share_left(normalizer, column)[..., None], column)
        ctx.save_for_backward(query, key, value, sinks, out, normalizer)
        ctx.mask, ctx.scale = mask, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key, value and sinks."""
        query, key, value, sinks, out, normalizer = ctx.saved_tensors
        grad = gradients[0]
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, out, normalizer, 0.0, ctx.mask is None, attn_mask=ctx.mask, scale=ctx.scale
        )
        of_sinks = None
        if ctx.needs_input_grad[3]:
            rows = [part[0].transpose(0, 1) for part in (grad, out, normalizer)]
            of_sinks = sink_gradient(rows[0], rows[1], rows[2], sinks.to(normalizer.dtype)).to(sinks.dtype)
        return (*found, of_sinks, None, None)
