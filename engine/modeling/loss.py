"""Cross-entropy from hidden states in chunks: the full logits never exist.

With a vocabulary of 128k, the logits of 8,192 tokens and what their gradient needs take 12 GiB; a
chunk of 1,024 rows takes 1.5 GiB and no more, whatever the batch. The gradient of the hidden states is
formed in the forward pass, chunk by chunk, as in Liger's fused linear cross-entropy
(arXiv 2410.10989). Used by `train` and by the perplexity of `evaluate`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

IGNORE = -100


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the negative log likelihood of `labels` [N] under `hidden` [N, h] @ `weight` [V, h].T.

    fp32 softmax; rows labelled -100 must be removed before. A frozen `weight` gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk: int, softcap: float
    ) -> torch.Tensor:
        """Returns a scalar, fp32."""
        needs_hidden, needs_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            losses, grad = _chunk(hidden[rows], weight, labels[rows], softcap, needs_hidden or needs_weight)
            total += losses.sum()
            if grad_hidden is not None:
                torch.mm(grad, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                grad_weight += grad.t() @ hidden[rows]
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
        return grad_hidden, grad_weight, None, None, None


class ChunkedTokenLoss(torch.autograd.Function):
    """Negative log likelihood of each of `labels` [N] under `hidden` [N, h] @ `weight` [V, h].T, frozen.

    As `ChunkedCrossEntropy`, for losses that weigh tokens or documents: fp32 [N].
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk: int, softcap: float
    ) -> torch.Tensor:
        """Returns fp32 [N]."""
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        losses = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            losses[rows], grad = _chunk(hidden[rows], weight, labels[rows], softcap, gradient is not None)
            if gradient is not None:
                torch.mm(grad, weight, out=gradient[rows])
            del grad
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Each row's gradient times what its loss weighs."""
        (gradient,) = ctx.saved_tensors
        return (gradient * grads[0][:, None].to(gradient.dtype)), None, None, None, None


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


def _logits(hidden: torch.Tensor, weight: torch.Tensor, softcap: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """fp32 logits of one chunk, and with a soft cap also d(capped) / d(raw)."""
    logits = (hidden @ weight.t()).float()
    if not softcap:
        return logits, None
    squashed = torch.tanh(logits / softcap)
    return squashed * softcap, 1 - squashed * squashed


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
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, chunk: int, softcap: float = 0.0
) -> torch.Tensor:
    """Summed loss of `hidden` [N, h] against `labels` [N] through an output head, in chunks.

    A plain linear head takes the fused path; one with an adapter or a bias is called chunk by chunk and
    recomputed in the backward pass.
    """
    if hidden.shape[0] == 0:
        return hidden.sum() * 0.0
    if _is_plain(head):
        total: torch.Tensor = ChunkedCrossEntropy.apply(hidden, _weight(head, hidden), labels, chunk, softcap)
        return total
    return _through_module(head, hidden, labels, chunk, softcap).sum()


def head_token_losses(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, chunk: int, softcap: float = 0.0
) -> torch.Tensor:
    """Loss of each row, fp32 [N], for objectives that weigh documents; a head that learns is recomputed."""
    if hidden.shape[0] == 0:
        return hidden.sum(dim=-1).float()
    if _is_plain(head) and not head.weight.requires_grad:
        losses: torch.Tensor = ChunkedTokenLoss.apply(hidden, _weight(head, hidden), labels, chunk, softcap)
        return losses
    return _through_module(head, hidden, labels, chunk, softcap)


def _is_plain(head: torch.nn.Module) -> bool:
    return type(head) is torch.nn.Linear and head.bias is None


def _weight(head: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    weight: torch.Tensor = head.weight  # type: ignore[assignment]
    return weight if weight.dtype == hidden.dtype else weight.to(hidden.dtype)


def _through_module(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, chunk: int, softcap: float
) -> torch.Tensor:
    from torch.utils.checkpoint import checkpoint

    def part(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(rows).float()
        if softcap:
            logits = torch.tanh(logits / softcap) * softcap
        return F.cross_entropy(logits, targets, reduction="none")

    pieces = [
        checkpoint(part, rows, targets, use_reentrant=False)
        for rows, targets in zip(hidden.split(chunk), labels.split(chunk), strict=True)
    ]
    return torch.cat(pieces)


def softcap_of(config: Any) -> float:
    """The final logit soft cap of a model configuration (Gemma 2), 0 when there is none."""
    return float(getattr(config, "final_logit_softcapping", None) or 0.0)
