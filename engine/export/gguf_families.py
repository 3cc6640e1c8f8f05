"""What llama.cpp takes for granted in a family, and the metadata that only this family has.

llama.cpp reads less than a configuration says: which layers see a window, how scores are scaled and whether the weights
of experts are normalized is code there. A model that differs would run and be wrong, so it is refused.
Source: llama.cpp's `src/models/` and its converter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.modeling import gguf_rope

Config = dict[str, Any]
_NARROW, _WIDE = "sliding_attention", "full_attention"


def refusal(config: Config) -> str:
    """Why llama.cpp would run this model otherwise than it was trained; empty where it would not."""
    judge = _JUDGES.get(str(config.get("model_type")))
    return judge(config) if judge else ""


def add_metadata(writer: Any, config: Config) -> None:
    """Write what this family's files have beside the shape of a Llama."""
    add = _METADATA.get(str(config.get("model_type")))
    if add is not None:
        add(writer, config)


def experts_of(config: Config) -> int:
    """Experts of a layer; 0 for a dense model."""
    return int(config.get("num_experts") or config.get("num_local_experts") or 0)


def _gemma2(config: Config) -> str:
    if not config.get("attn_logit_softcapping", 50.0) or not config.get("final_logit_softcapping", 30.0):
        return "llama.cpp caps the scores and logits of every Gemma 2, and this one has no soft cap"
    return _gemma(config, 2, 46)


def _gemma3(config: Config) -> str:
    if config.get("final_logit_softcapping") or config.get("attn_logit_softcapping"):
        return "llama.cpp does not cap the scores and logits of Gemma 3, and this one has a soft cap"
    return _gemma(config, 6, 62)


def _gemma(config: Config, period: int, largest: int) -> str:
    """`period`: every how many layers one sees everything; `largest`: layers of the model with other scores."""
    layers, width = int(config["num_hidden_layers"]), int(config.get("head_dim", 256))
    expected = [_NARROW if (layer + 1) % period else _WIDE for layer in range(layers)]
    if config.get("layer_types", expected) != expected:
        return f"llama.cpp lets every {_ORDINALS[period]} layer of this family see everything, and here others do"
    heads = int(config["num_attention_heads"])
    scale = int(config["hidden_size"]) // heads if layers == largest else width
    if float(config.get("query_pre_attn_scalar", width)) != scale:
        return f"llama.cpp divides this model's scores by the root of {scale}, not of query_pre_attn_scalar"
    if config.get("hidden_activation", _GELU) != _GELU:
        return f"llama.cpp runs this family with {_GELU} alone"
    if config.get("attention_bias"):
        return "llama.cpp knows no biases in this family"
    if config.get("use_bidirectional_attention"):
        return "llama.cpp runs this family with causal attention alone"
    if config.get("tie_word_embeddings") is False:
        return "llama.cpp takes the output head of this family from the embedding, and this one has its own"
    return ""


_ORDINALS = {2: "second", 6: "sixth"}
_GELU = "gelu_pytorch_tanh"


def _phi3(config: Config) -> str:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    if int(config.get("head_dim") or hidden // heads) * heads != hidden:
        return "llama.cpp takes the heads of this family to be as wide together as the hidden states"
    if gguf_rope.parameters_of(config)["rope_type"] != "default":
        return "scaled positions of this family are not written as GGUF"
    return _silu(config)


def _qwen2_moe(config: Config) -> str:
    if config.get("norm_topk_prob"):
        return "llama.cpp does not normalize the experts' weights in this family (norm_topk_prob)"
    if config.get("qkv_bias") is False:
        return "llama.cpp wants biases of query, key and value in this family"
    return _moe(config)


def _qwen3_moe(config: Config) -> str:
    if not config.get("norm_topk_prob"):
        return "llama.cpp normalizes the experts' weights in this family, and this model does not (norm_topk_prob)"
    if config.get("attention_bias"):
        return "llama.cpp knows no biases in this family"
    return _moe(config)


def _moe(config: Config) -> str:
    if config.get("mlp_only_layers") or int(config.get("decoder_sparse_step") or 1) != 1:
        return "llama.cpp wants experts in every layer of this family"
    return _silu(config)


def _silu(config: Config) -> str:
    return "" if config.get("hidden_act", "silu") == "silu" else "llama.cpp runs this family with silu alone"


def _add_gemma2(writer: Any, config: Config) -> None:
    writer.add_attn_logit_softcapping(float(config["attn_logit_softcapping"]))
    writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))
    writer.add_sliding_window(int(config["sliding_window"]))


def _add_gemma3(writer: Any, config: Config) -> None:
    writer.add_sliding_window(int(config["sliding_window"]))


def _add_phi3(writer: Any, config: Config) -> None:
    known = config.get("original_max_position_embeddings") or config["max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(int(known))
    # llama.cpp tells Phi-4 from the others by a window of 0.
    writer.add_sliding_window(int(config.get("sliding_window") or 0))


def _add_qwen3_moe(writer: Any, config: Config) -> None:
    writer.add_expert_count(experts_of(config))
    writer.add_expert_used_count(int(config["num_experts_per_tok"]))
    writer.add_expert_feed_forward_length(int(config["moe_intermediate_size"]))


def _add_qwen2_moe(writer: Any, config: Config) -> None:
    _add_qwen3_moe(writer, config)
    writer.add_expert_shared_feed_forward_length(int(config["shared_expert_intermediate_size"]))


_JUDGES: dict[str, Callable[[Config], str]] = {
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
}
_METADATA: dict[str, Callable[[Any, Config], None]] = {
    "gemma2": _add_gemma2,
    "gemma3_text": _add_gemma3,
    "phi3": _add_phi3,
    "qwen2_moe": _add_qwen2_moe,
    "qwen3_moe": _add_qwen3_moe,
}
