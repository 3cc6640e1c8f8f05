"""Which models llama.cpp would run otherwise than they were trained: refused, each with its reason.

llama.cpp reads less than a configuration says: which layers see a window or turn, how scores are scaled and whether the
weights of experts are normalized is code there. Source: llama.cpp's `src/models/` and its converter; what is let
through was compared with llama.cpp itself (`bench/gguf_families.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.modeling import gguf_rope

Config = dict[str, Any]
_NARROW, _WIDE = "sliding_attention", "full_attention"
_ORDINALS = {2: "second", 4: "fourth", 6: "sixth"}
_GELU = "gelu_pytorch_tanh"
_STILL = 0.3
"""Largest angle in all of the context, in radians, of a pair of dimensions that may stay unturned."""
_NO_BIASES = "llama.cpp knows no biases in this family"
_OTHERWISE = {
    "phimoe": "llama.cpp weighs this family's experts by a softmax, and the model was trained with another rule",
}
"""Families that llama.cpp has and that it runs otherwise, whatever their numbers."""


def refusal(config: Config) -> str:
    """Why llama.cpp would run this model otherwise than it was trained; empty where it would not."""
    judge = _JUDGES.get(str(config.get("model_type")))
    return judge(config) if judge else ""


def unknown(config: Config) -> str:
    """Why no file of this family is written."""
    family = str(config.get("model_type"))
    return _OTHERWISE.get(family) or f"models of the family '{family}' are not written as GGUF"


def _gemma1(config: Config) -> str:
    return _gelu(config) or _biases(config) or _two_ways(config) or _own_head(config)


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
    width, heads = int(config.get("head_dim", 256)), int(config["num_attention_heads"])
    scale = int(config["hidden_size"]) // heads if int(config["num_hidden_layers"]) == largest else width
    if turns := _turns(config, period):
        return turns
    if float(config.get("query_pre_attn_scalar", width)) != scale:
        return f"llama.cpp divides this model's scores by the root of {scale}, not of query_pre_attn_scalar"
    return _gemma1(config)


def _turns(config: Config, period: int) -> str:
    expected = [_NARROW if (layer + 1) % period else _WIDE for layer in range(int(config["num_hidden_layers"]))]
    if (config.get("layer_types") or expected) == expected:
        return ""
    return f"llama.cpp lets every {_ORDINALS[period]} layer of this family see everything, and here others do"


def _gelu(config: Config) -> str:
    used = config.get("hidden_activation") or config.get("hidden_act") or _GELU
    return "" if used == _GELU else f"llama.cpp runs this family with {_GELU} alone"


def _biases(config: Config) -> str:
    kinds = ("attention_bias", "mlp_bias", "use_bias", "attention_out_bias")
    return _NO_BIASES if any(config.get(kind) for kind in kinds) else ""


def _two_ways(config: Config) -> str:
    if config.get("use_bidirectional_attention"):
        return "llama.cpp runs this family with causal attention alone"
    return ""


def _own_head(config: Config) -> str:
    if config.get("tie_word_embeddings") is False:
        return "llama.cpp takes the output head of this family from the embedding, and this one has its own"
    return ""


def _whole_heads(config: Config) -> str:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    if int(config.get("head_dim") or hidden // heads) * heads != hidden:
        return "llama.cpp takes the heads of this family to be as wide together as the hidden states"
    return ""


def _silu(config: Config) -> str:
    return "" if config.get("hidden_act", "silu") == "silu" else "llama.cpp runs this family with silu alone"


def _relu2(config: Config) -> str:
    return "" if config.get("hidden_act", "relu2") == "relu2" else "llama.cpp runs this family with relu2 alone"


def _plain(config: Config) -> str:
    return _silu(config) or _biases(config)


def _phi3(config: Config) -> str:
    if gguf_rope.parameters_of(config)["rope_type"] != "default":
        return "scaled positions of this family are not written as GGUF"
    return _whole_heads(config) or _silu(config)


def _qwen2_moe(config: Config) -> str:
    if config.get("norm_topk_prob"):
        return "llama.cpp does not normalize the experts' weights in this family (norm_topk_prob)"
    if config.get("qkv_bias") is False:
        return "llama.cpp wants biases of query, key and value in this family"
    return _moe(config)


def _qwen3_moe(config: Config) -> str:
    if not config.get("norm_topk_prob"):
        return "llama.cpp normalizes the experts' weights in this family, and this model does not (norm_topk_prob)"
    return _biases(config) or _moe(config)


def _moe(config: Config) -> str:
    if config.get("mlp_only_layers") or int(config.get("decoder_sparse_step") or 1) != 1:
        return "llama.cpp wants experts in every layer of this family"
    return _silu(config)


def _olmoe(config: Config) -> str:
    if config.get("norm_topk_prob"):
        return "llama.cpp does not normalize the experts' weights in this family (norm_topk_prob)"
    if config.get("clip_qkv"):
        return "llama.cpp does not clip queries, keys and values in this family (clip_qkv)"
    if int(config.get("num_key_value_heads") or 0) not in (0, int(config["num_attention_heads"])):
        return "llama.cpp wants as many heads of keys as of queries in this family"
    return _plain(config)


def _smollm3(config: Config) -> str:
    layers = int(config["num_hidden_layers"])
    expected = [int((layer + 1) % 4 != 0) for layer in range(layers)]
    if [int(turns) for turns in config.get("no_rope_layers") or expected] != expected:
        return "llama.cpp leaves every fourth layer of this family without positions, and here others are"
    if config.get("use_sliding_window"):
        return "llama.cpp knows no sliding window of this family"
    return _silu(config)


def _ministral3(config: Config) -> str:
    rope = gguf_rope.parameters_of(config)
    if rope["rope_type"] != "yarn" or rope.get("mscale") != 1.0 or not rope.get("mscale_all_dim"):
        return "llama.cpp wants positions by YaRN with mscale = 1 and mscale_all_dim in this family"
    if rope.get("llama_4_scaling_beta") is None:
        return "llama.cpp wants the scale of queries by position in this family (llama_4_scaling_beta)"
    return _plain(config)


def _arcee(config: Config) -> str:
    return _relu2(config) or _biases(config)


def _apertus(config: Config) -> str:
    if config.get("hidden_act", "xielu") != "xielu":
        return "llama.cpp runs this family with xIELU alone"
    return _biases(config) or _whole_heads(config)


def _seed_oss(config: Config) -> str:
    if config.get("attention_out_bias") or config.get("mlp_bias"):
        return "llama.cpp knows biases of query, key and value alone in this family"
    return _silu(config)


def _cohere2(config: Config) -> str:
    if config.get("use_qk_norm"):
        return "llama.cpp knows no norms of queries and keys in this family"
    return _turns(config, 4) or _whole_heads(config) or _own_head(config) or _plain(config)


def _olmo2(config: Config) -> str:
    return _whole_heads(config) or _plain(config)


def _olmo3(config: Config) -> str:
    windowed = gguf_rope.windowed_parameters_of(config)
    if windowed and float(windowed["rope_theta"]) != float(gguf_rope.parameters_of(config)["rope_theta"]):
        return "llama.cpp turns all layers of this family at one rate, and here those with a window turn at another"
    return _turns(config, 4) or _olmo2(config)


def _exaone4(config: Config) -> str:
    if config.get("sliding_window") and int(config["num_hidden_layers"]) != 64:
        return "llama.cpp knows windows of this family in models of 64 layers alone"
    return (_turns(config, 4) if config.get("sliding_window") else "") or _silu(config)


def _qwen3_vl(config: Config) -> str:
    """llama.cpp shares out pairs by threes, and leaves those beyond the sections unturned."""
    rope = gguf_rope.parameters_of(config)
    sections = [int(size) for size in rope.get("mrope_section") or ()]
    pairs = gguf_rope.width_of(config) // 2
    unturned = [pair for pair in range(pairs) if len(sections) == 3 and pair >= 3 * sections[pair % 3]]
    angle = int(config["max_position_embeddings"]) * float(rope["rope_theta"]) ** (-min(unturned, default=0) / pairs)
    if len(sections) != 3 or (unturned and angle > _STILL):
        return "llama.cpp leaves a part of this model's positions out (mrope_section)"
    return _biases(config) or _silu(config)


def _granite(config: Config) -> str:
    return _whole_heads(config) or _silu(config)


_JUDGES: dict[str, Callable[[Config], str]] = {
    "apertus": _apertus,
    "arcee": _arcee,
    "cohere2": _cohere2,
    "ernie4_5": _plain,
    "exaone4": _exaone4,
    "gemma": _gemma1,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "glm4": _silu,
    "granite": _granite,
    "hunyuan_v1_dense": _plain,
    "ministral3": _ministral3,
    "mixtral": _silu,
    "nemotron": _arcee,
    "olmo2": _olmo2,
    "olmo3": _olmo3,
    "olmoe": _olmoe,
    "phi3": _phi3,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "qwen3_vl_text": _qwen3_vl,
    "seed_oss": _seed_oss,
    "smollm3": _smollm3,
}
