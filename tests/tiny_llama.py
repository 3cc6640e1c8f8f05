"""A small random Llama with adapters on all its linear layers, none of them zero."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.modeling import attention

VOCABULARY = 97


def tiny_llama(layers: int = 3, *, kind: Any = LlamaConfig, stirred: bool = True, r: int = 4, **sizes: int) -> Any:
    """fp32 on the processor; `kind`: another family's configuration; not `stirred`: B matrices are zero, as fresh."""
    attention.register()
    torch.manual_seed(0)
    known = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    config = kind(num_hidden_layers=layers, **known | heads | sizes)
    base = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    model = get_peft_model(base, LoraConfig(r=r, target_modules="all-linear"), autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if stirred and "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return model
