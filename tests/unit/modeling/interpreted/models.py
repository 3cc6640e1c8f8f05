"""Tiny models of each family with kernels, a batch, and what a step of training gives."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from engine.modeling import attention, forward
from engine.modeling.loss import shifted

attention.register()

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Of every family's tiny model."""
_SLIDING = {"sliding_window": 2, "layer_types": ["sliding_attention", "full_attention"]}
OPTIONS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "ministral3": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "internlm3": {"bias": False, "qkv_bias": False},
    "granite": {"residual_multiplier": 0.3, "embedding_multiplier": 2.0, "logits_scaling": 1.0},
    "phi3": {"partial_rotary_factor": 0.5, "sliding_window": None},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "qwen3_5_text": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "gemma2": {"final_logit_softcapping": 5.0, **_SLIDING},
    "gemma3_text": _SLIDING,
    "gemma4_text": {
        **_SLIDING,
        "global_head_dim": 8,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 61,
        "num_kv_shared_layers": 0,
    },
    "olmo2": {},
    "olmo3": _SLIDING,
    "exaone4": _SLIDING,
    "glm4": {},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, **_SLIDING},
}
"""What a family's configuration needs beside the sizes."""


def tiny(family: str, dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    """A random model of a family; norm weights are not all the same, so that offsets and casts show."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **OPTIONS[family], **more})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    model.config.use_cache = False
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1 and "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.3)
            elif weight.dim() > 1:
                weight.normal_(std=0.1)
    return model.to(dtype).train()


def batch(rows: int = 1, length: int = 9) -> forward.Batch:
    """Packed rows of three documents each."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 61, (rows, length), generator=generator)
    third = length // 3
    borders = torch.arange(0, rows * length + 1, third, dtype=torch.int32)
    labels = ids.clone()
    labels[:, ::third] = -100
    labels[:, 1::5] = -100
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.arange(third).repeat(3 * rows).reshape(rows, length),
        "cu_seq_lens": borders,
        "max_doc_length": third,
    }


@dataclass(frozen=True, slots=True)
class Step:
    """Loss, and the gradient of all trained weights as one vector: fp32."""

    loss: float
    gradient: torch.Tensor

    def apart(self, other: Step) -> float:
        """Distance of the gradients as a share of this one's norm."""
        return float((self.gradient - other.gradient).norm() / self.gradient.norm())


def step(model: Any, data: forward.Batch | None = None) -> Step:
    """One forward and backward pass."""
    model.zero_grad(set_to_none=True)
    loss = _loss(model, data or batch())
    loss.backward()
    found = [weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad(set_to_none=True)
    return Step(loss.item(), torch.cat(found))


def _loss(model: Any, data: forward.Batch) -> torch.Tensor:
    if model.config.model_type != "qwen3_5_text":
        return forward.loss_sum(model, data)
    # Its linear attention takes packed documents through a package of its own only: each row is one document here.
    logits = model(input_ids=data["input_ids"], use_cache=False).logits
    rows, targets = shifted(logits.float(), data["labels"])
    return torch.nn.functional.cross_entropy(rows, targets, reduction="sum")


def adapted(model: Any, **options: Any) -> Any:
    """The model with PEFT's adapters on all linear layers, none of them zero."""
    from peft import LoraConfig, get_peft_model

    found = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **options), autocast_adapter_dtype=False
    )
    for name, weight in found.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.to(model.dtype)
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return found


def in_fp32(model: Any) -> Any:
    """The same weights in fp32."""
    return copy.deepcopy(model).float()
