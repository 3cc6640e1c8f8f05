"""Numbers of a GGUF file that transformers' reader leaves out, and that a model needs.

Widths of heads and experts, soft caps, whether there are biases.

Without them a configuration's defaults stand, which are those of one published model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SIZES = {
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
_CAPS = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}
_HEADS = {"attention.key_length": "head_dim"}
_KEYS = {"qwen2moe": _SIZES, "qwen3": _HEADS, "qwen3moe": _SIZES, "gemma2": _CAPS, "gemma3": {}}
_BIASES = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
"""Of a Llama, which transformers takes to have none."""
_LARGEST = {"gemma2": 46, "gemma3": 62}
"""Layers of the models whose scores llama.cpp divides by the root of another width than a head's."""


def left_out(path: Path) -> dict[str, Any]:
    """Options of `from_pretrained`; empty for a family whose files say all that is needed."""
    from engine.modeling.gguf_open import reader_of

    reader = reader_of(path)
    name = str(reader.get_field("general.architecture").contents())

    def value(key: str) -> Any:
        field = reader.get_field(f"{name}.{key}")
        return None if field is None else field.contents()

    found = {theirs: value(ours) for ours, theirs in _KEYS.get(name, {}).items()}
    if name in _LARGEST:
        width = value("attention.key_length")
        largest = value("block_count") == _LARGEST[name]
        found["query_pre_attn_scalar"] = (
            value("embedding_length") // value("attention.head_count") if largest else width
        )
    names = {tensor.name for tensor in reader.tensors} if name == "llama" else set()
    biases = {key: True for key, tensor in _BIASES.items() if tensor in names}
    return {key: number for key, number in found.items() if number is not None} | biases
