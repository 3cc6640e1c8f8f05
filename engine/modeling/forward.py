"""One forward pass of packed documents to a summed loss, without full logits.

Training and evaluation share it, so that both measure the same thing.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.memory.shape import KERNEL_CHUNK_TOKENS, LOSS_CHUNK_TOKENS
from engine.modeling import delta_rule
from engine.modeling.adapters import base_of
from engine.modeling.attention import LENGTHS
from engine.modeling.logits import rule_of
from engine.modeling.loss import (
    by_kernel,
    head_loss_sum,
    head_token_losses,
    label_positions,
    predicting,
    shifted,
)

Batch = dict[str, Any]


def _inputs(batch: Batch) -> dict[str, Any]:
    """A packed batch as the models' keyword arguments.

    No attention mask and no cache are passed: with either, transformers would let documents of one row
    attend to each other. A batch with an `attention_mask` has one document a row, and no borders to pass.
    Convolutions and state-space layers know documents by `seq_idx` [B, S], their number in the row: what stands behind
    the one document of a row (`alone`) they need not know, since they only look back.
    """
    if "attention_mask" in batch:
        return {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")} | {"use_cache": False}
    if "document_lengths" in batch:
        # On the tensor, which reaches attention as it is: as an argument they would be another graph for a compiler.
        setattr(batch["cu_seq_lens"], LENGTHS, tuple(batch["document_lengths"]))
    found = {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "use_cache": False,
        "cu_seq_lens_q": batch["cu_seq_lens"],
        "cu_seq_lens_k": batch["cu_seq_lens"],
        "max_length_q": batch["max_doc_length"],
        "max_length_k": batch["max_doc_length"],
    }
    if not batch.get("alone"):
        found["seq_idx"] = (batch["position_ids"] == 0).cumsum(1, dtype=torch.int32)
    return found


def hidden_states(model: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states [B, S, h] of a packed batch; documents do not see each other."""
    base = base_of(model)
    states: torch.Tensor = base.get_decoder()(**delta_rule.as_taken(base, _inputs(batch))).last_hidden_state
    return states.reshape(*batch["input_ids"].shape, -1)


def loss_sum(model: Any, batch: Batch) -> torch.Tensor:
    """Negative log likelihood summed over the trained tokens of a packed batch; fp32 scalar."""
    base = base_of(model)
    rows, targets = predicting(hidden_states(model, batch), batch)
    head = base.get_output_embeddings()
    return head_loss_sum(head, rows, targets, _chunk_rows(head), rule_of(base.config))


def document_losses(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log likelihood of each document of a packed batch, and its trained tokens: fp32 [D], [D]."""
    base = base_of(model)
    rows, targets = predicting(hidden_states(model, batch), batch)
    head = base.get_output_embeddings()
    losses = head_token_losses(head, rows, targets, _chunk_rows(head), rule_of(base.config))
    owners = torch.searchsorted(batch["cu_seq_lens"][1:].long(), label_positions(batch), right=True)
    empty = torch.zeros(len(batch["cu_seq_lens"]) - 1, dtype=torch.float32, device=losses.device)
    return empty.index_add(0, owners, losses), empty.index_add(0, owners, torch.ones_like(losses))


def _chunk_rows(head: torch.nn.Module) -> int:
    return KERNEL_CHUNK_TOKENS if by_kernel(head) else LOSS_CHUNK_TOKENS


def document_rewards(model: Any, batch: Batch) -> torch.Tensor:
    """The score of each document of a packed batch, from its last token: fp32 [D]."""
    states = hidden_states(model, batch).flatten(0, 1)
    last = batch["cu_seq_lens"][1:].long() - 1
    rewards: torch.Tensor = base_of(model).score(states[last]).float()[:, 0]
    return rewards


def loss_sum_from_logits(model: Any, batch: Batch) -> torch.Tensor:
    """The same from the model's own full logits: slower and larger, for heads that do more than a product."""
    logits = model(**delta_rule.as_taken(base_of(model), _inputs(batch))).logits
    rows, targets = shifted(logits.reshape(*batch["input_ids"].shape, -1).float(), batch["labels"])
    return torch.nn.functional.cross_entropy(rows, targets, reduction="sum")
