"""Cross-entropy from hidden states in chunks: the full logits never exist.

With a vocabulary of 128k, the logits of 8,192 tokens and what their gradient needs take 12 GiB; a
chunk of 1,024 rows takes 1.5 GiB and no more, whatever the batch. The gradient of the hidden states is
formed in the forward pass, chunk by chunk, as in Liger's fused linear cross-entropy
(arXiv 2410.10989). An output head that `engine.modeling.liger` bound takes Liger's kernel, which writes the
gradient over the logits: 2 bytes a logit in 16 bit, where the plain way holds two in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from engine.modeling import liger
from engine.modeling.logits import PLAIN, LogitRule, applied, scaled_

IGNORE = -100


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the negative log likelihood of `labels` [N] under `hidden` [N, h] @ `weight` [V, h].T.

    fp32 softmax; rows labelled -100 must be removed before. A frozen `weight` gets no gradient, that of a
    trained one is summed over the chunks in fp32. A scale is put on the hidden states of a chunk, which are far
    smaller than its logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        chunk: int,
        rule: LogitRule,
        kernel: bool = False,
    ) -> torch.Tensor:
        """Returns a scalar, fp32."""
        needs_hidden, needs_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            form = _chunk_by_kernel if kernel else _chunk
            part = _scaled(hidden[rows], rule)
            losses, grad = form(part, weight, labels[rows], rule.softcap, needs_hidden or needs_weight)
            total += losses.sum()
            if grad_hidden is not None:
                scaled_(torch.mm(grad, weight, out=grad_hidden[rows]), rule)
            if grad_weight is not None:
                grad_weight += grad.t() @ part
            # Else it would still be there while the next chunk's logits are formed.
            del grad
        saved = [tensor for tensor in (grad_hidden, grad_weight) if tensor is not None]
        ctx.save_for_backward(*saved)
        ctx.has = (grad_hidden is not None, grad_weight is not None)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales what the forward pass formed."""
        saved = list(ctx.saved_tensors)
        grad_hidden = saved.pop(0) * grads[0] if ctx.has[0] else None
        grad_weight = (saved.pop(0) * grads[0]).to(ctx.weight_dtype) if ctx.has[1] else None
        return grad_hidden, grad_weight, None, None, None, None


class ChunkedTokenLoss(torch.autograd.Function):
    """Negative log likelihood of each of `labels` [N] under `hidden` [N, h] @ `weight` [V, h].T, frozen.

    As `ChunkedCrossEntropy`, for losses that weigh tokens or documents: fp32 [N].
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        chunk: int,
        rule: LogitRule,
        kernel: bool = False,
    ) -> torch.Tensor:
        """Returns fp32 [N]."""
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        losses = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            form = _chunk_by_kernel if kernel else _chunk
            part = _scaled(hidden[rows], rule)
            losses[rows], grad = form(part, weight, labels[rows], rule.softcap, gradient is not None)
            if gradient is not None:
                scaled_(torch.mm(grad, weight, out=gradient[rows]), rule)
            del grad
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Each row's gradient times what its loss weighs."""
        (gradient,) = ctx.saved_tensors
        return (gradient * grads[0][:, None].to(gradient.dtype)), None, None, None, None, None


class _KernelTokenLoss(torch.autograd.Function):
    """Loss of each row of logits [N, V], which nothing else may keep: their gradient is written over them."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
        """Returns fp32 [N]."""
        losses = liger.cross_entropy_(logits, targets, softcap, ctx.needs_input_grad[0])
        ctx.save_for_backward(logits)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Each row's gradient times what its loss weighs, in place."""
        (gradient,) = ctx.saved_tensors
        return gradient.detach().mul_(grads[0][:, None]), None, None


def _scaled(hidden: torch.Tensor, rule: LogitRule) -> torch.Tensor:
    return hidden if rule.scale == 1.0 else hidden * rule.scale


def _chunk(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, softcap: float, needs_grad: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's loss of one chunk, and the gradient of their sum by the raw logits (empty when not wanted).

    The gradient is in `hidden`'s dtype. A function of its own, so that the fp32 logits are gone when it returns.
    """
    logits, slope = _logits(hidden, weight, softcap)
    log_normalizer = torch.logsumexp(logits, dim=-1)
    losses = log_normalizer - logits.gather(1, labels[:, None]).squeeze(1)
    if not needs_grad:
        return losses, logits.new_empty(0)
    grad = logits.sub_(log_normalizer[:, None]).exp_()
    grad.scatter_add_(1, labels[:, None], grad.new_full((grad.shape[0], 1), -1.0))
    return losses, (grad if slope is None else grad.mul_(slope)).to(hidden.dtype)


def _chunk_by_kernel(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, softcap: float, needs_grad: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_chunk`, from logits in `hidden`'s dtype that their own gradient is written over."""
    logits = hidden @ weight.t()
    losses = liger.cross_entropy_(logits, labels, softcap, needs_grad)
    return losses, logits.to(hidden.dtype) if needs_grad else logits.new_empty(0)


def _logits(hidden: torch.Tensor, weight: torch.Tensor, softcap: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """fp32 logits of one chunk, and with a soft cap also d(capped) / d(raw)."""
    logits = (hidden @ weight.t()).float()
    if not softcap:
        return logits, None
    squashed = torch.tanh(logits / softcap)
    return squashed * softcap, 1 - squashed * squashed


def predicting(hidden: torch.Tensor, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of `hidden` [B, S, h] that predict a trained label, and those labels: [N, h], [N].

    From the batch's `trained`, int64 positions [N] of those rows in the flattened B * S, and `targets`, int64 [N],
    where it has them: looking for them among the labels, as otherwise done, waits for the device.
    """
    if "trained" not in batch:
        return shifted(hidden, batch["labels"])
    return hidden.flatten(0, 1).index_select(0, batch["trained"]), batch["targets"]


def label_positions(batch: dict[str, Any]) -> torch.Tensor:
    """Where the labels that `predicting` returns stand in the flattened batch: int64 [N]."""
    return batch["trained"] + 1 if "trained" in batch else trained_positions(batch["labels"])


def trained_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where the labels [B, S] that `shifted` keeps stand in the flattened batch: int64 [N]."""
    keep = (labels[:, 1:] != IGNORE).nonzero()
    return keep[:, 0] * labels.shape[1] + keep[:, 1] + 1


def shifted(hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states that predict a trained label, and those labels: [N, h], [N].

    `hidden` [B, S, h] at t predicts `labels` [B, S] at t + 1. Masked rows are left out, so that a prompt
    costs no logits.
    """
    targets = labels[:, 1:].reshape(-1)
    keep = (targets != IGNORE).nonzero(as_tuple=True)[0]
    rows = hidden[:, :-1].reshape(-1, hidden.shape[-1]).index_select(0, keep)
    return rows, targets.index_select(0, keep)


def head_loss_sum(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, chunk: int, rule: LogitRule = PLAIN
) -> torch.Tensor:
    """Summed loss of `hidden` [N, h] against `labels` [N] through an output head, in chunks.

    A plain linear head takes the fused path; one with an adapter or a bias is called chunk by chunk and
    recomputed in the backward pass.
    """
    if hidden.shape[0] == 0:
        return hidden.sum() * 0.0
    if _is_plain(head):
        total: torch.Tensor = ChunkedCrossEntropy.apply(*_factors(head, hidden), labels, chunk, rule, by_kernel(head))
        return total
    return _through_module(head, hidden, labels, chunk, rule).sum()


def head_token_losses(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, chunk: int, rule: LogitRule = PLAIN
) -> torch.Tensor:
    """Loss of each row, fp32 [N], for objectives that weigh documents; a head that learns is recomputed."""
    if hidden.shape[0] == 0:
        return hidden.sum(dim=-1).float()
    if _is_plain(head) and not head.weight.requires_grad:
        losses: torch.Tensor = ChunkedTokenLoss.apply(*_factors(head, hidden), labels, chunk, rule, by_kernel(head))
        return losses
    return _through_module(head, hidden, labels, chunk, rule)


def by_kernel(head: torch.nn.Module) -> bool:
    """Whether the loss of this output head is formed by Liger's kernel."""
    return bool(getattr(head, liger.LOSS_FLAG, False))


def _is_plain(head: torch.nn.Module) -> bool:
    return type(head) is torch.nn.Linear and head.bias is None


def _factors(head: torch.nn.Module, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and the head's weight in one dtype; without a gradient where none is recorded."""
    weight: torch.Tensor = head.weight  # type: ignore[assignment]
    weight = weight if weight.dtype == hidden.dtype else weight.to(hidden.dtype)
    # A Function is asked for the gradients of what could have one, also under `no_grad`.
    return (hidden, weight) if torch.is_grad_enabled() else (hidden.detach(), weight.detach())


def _through_module(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, chunk: int, rule: LogitRule
) -> torch.Tensor:
    from torch.utils.checkpoint import checkpoint

    def part(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(rows)
        if by_kernel(head):
            losses: torch.Tensor = _KernelTokenLoss.apply(scaled_(logits, rule), targets, rule.softcap)
            return losses
        return F.cross_entropy(applied(logits, rule), targets, reduction="none")

    pieces = [
        checkpoint(part, rows, targets, use_reentrant=False)
        for rows, targets in zip(hidden.split(chunk), labels.split(chunk), strict=True)
    ]
    return torch.cat(pieces)
