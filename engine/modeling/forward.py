"""One forward pass of packed documents to a summed loss, without full logits.

Shared by the trainer and by evaluation, so that both measure the same thing. Also here: activation
checkpointing under the name that the installed transformers gives it.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.modeling.loss import head_loss_sum, head_token_losses, shifted, softcap_of, trained_positions

LOSS_CHUNK_ROWS = 512
"""Rows of logits alive at once; the memory model counts on this number."""

Batch = dict[str, Any]


def base_of(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _inputs(batch: Batch) -> dict[str, Any]:
    """A packed batch as the models' keyword arguments.

    No attention mask and no cache are passed: with either, transformers would let documents of one row
    attend to each other.
    """
    return {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "use_cache": False,
        "cu_seq_lens_q": batch["cu_seq_lens"],
        "cu_seq_lens_k": batch["cu_seq_lens"],
        "max_length_q": batch["max_doc_length"],
        "max_length_k": batch["max_doc_length"],
    }


def hidden_states(model: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states [B, S, h] of a packed batch; documents do not see each other."""
    states: torch.Tensor = base_of(model).get_decoder()(**_inputs(batch)).last_hidden_state
    return states


def loss_sum(model: Any, batch: Batch) -> torch.Tensor:
    """Negative log likelihood summed over the trained tokens of a packed batch; fp32 scalar."""
    base = base_of(model)
    rows, targets = _predicting(hidden_states(model, batch), batch)
    return head_loss_sum(base.get_output_embeddings(), rows, targets, LOSS_CHUNK_ROWS, softcap_of(base.config))


def _predicting(states: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states that predict a trained label, and those labels: [N, h], [N].

    `collate` works out on the host where they are; a batch made by hand is searched, for which the host waits.
    """
    if "trained" not in batch:
        return shifted(states, batch["labels"])
    return states.flatten(0, 1).index_select(0, batch["trained"]), batch["targets"]


def document_losses(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log likelihood of each document of a packed batch, and its trained tokens: fp32 [D], [D]."""
    base = base_of(model)
    rows, targets = _predicting(hidden_states(model, batch), batch)
    losses = head_token_losses(base.get_output_embeddings(), rows, targets, LOSS_CHUNK_ROWS, softcap_of(base.config))
    positions = batch["trained"] + 1 if "trained" in batch else trained_positions(batch["labels"])
    owners = torch.searchsorted(batch["cu_seq_lens"][1:].long(), positions, right=True)
    empty = torch.zeros(len(batch["cu_seq_lens"]) - 1, dtype=torch.float32, device=losses.device)
    return empty.index_add(0, owners, losses), empty.index_add(0, owners, torch.ones_like(losses))


def document_rewards(model: Any, batch: Batch) -> torch.Tensor:
    """The score of each document of a packed batch, from its last token: fp32 [D]."""
    states = hidden_states(model, batch).flatten(0, 1)
    last = batch["cu_seq_lens"][1:].long() - 1
    rewards: torch.Tensor = base_of(model).score(states[last]).float()[:, 0]
    return rewards


def loss_sum_from_logits(model: Any, batch: Batch) -> torch.Tensor:
    """The same from the model's own full logits: slower and larger, for heads that do more than a product."""
    output = model(**_inputs(batch))
    rows, targets = shifted(output.logits.float(), batch["labels"])
    return torch.nn.functional.cross_entropy(rows, targets, reduction="sum")


def enable_checkpointing(model: Any, every_n_layers: int) -> None:
    """Recompute activations of every n-th layer in the backward pass (0 = of none), non-reentrant."""
    base = base_of(model)
    if not every_n_layers:
        return
    options = {"use_reentrant": False}
    if hasattr(base, "activation_checkpointing_enable"):
        base.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index % every_n_layers == 0
    if layers and not any(parameter.requires_grad for parameter in layers[0].parameters()):
        # transformers lets the embedding's output ask for a gradient: layers that are frozen would keep activations.
        base.disable_input_require_grads()
