"""Tiny random models of every architecture that people tune, made from transformers' own classes.

Two to four layers, one of each kind that the architecture has, with the built-in tokenizer: what holds or breaks for a
family shows in seconds on a processor. `medium` gives the same blocks wide enough for memory to mean something.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

Options = dict[str, Any]

SIZES: Options = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
}
MEDIUM: Options = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "max_position_embeddings": 4096,
}
_WINDOWS: Options = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
_PERIOD_4: Options = {
    **_WINDOWS,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
}
_PERIOD_6: Options = {
    **_WINDOWS,
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "query_pre_attn_scalar": 16,
}
"""Windows in turns as published: llama.cpp has no others."""
_EXPERTS: Options = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LINEAR: Options = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_LATENT: Options = {
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "head_dim": 16,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_MAMBA: Options = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1}
_SECTIONS: Options = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [3, 3, 2]}
_PARTIAL: Options = {**_SECTIONS, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
_GEMMA4: Options = {
    **_WINDOWS,
    "global_head_dim": 16,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 512,
    "num_kv_shared_layers": 0,
}
TYPES: dict[str, Options] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "ministral3": {"sliding_window": None},
    "smollm3": {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]},
    "arcee": {},
    "apertus": {},
    "seed_oss": {},
    "ernie4_5": {},
    "helium": {},
    "hunyuan_v1_dense": {},
    "exaone4": _WINDOWS,
    "nemotron": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": None},
    "phi": {},
    "internlm3": {"bias": False, "qkv_bias": False},
    "cwm": {**_WINDOWS, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},
    "qwen2": {},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 48, "layer_types": None},
    "qwen3": {},
    "qwen3_moe": {**_EXPERTS, "norm_topk_prob": True},
    "qwen3_5_text": _LINEAR,
    "qwen3_5_moe_text": {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3_next": {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 32},
    "gemma": {},
    "gemma2": {**_WINDOWS, "query_pre_attn_scalar": 16},
    "gemma3_text": _PERIOD_6,
    "gemma3n_text": {
        **_WINDOWS,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 512,
        "laurel_rank": 8,
        "activation_sparsity_pattern": None,
    },
    "gemma4_text": _GEMMA4,
    "phi3": {"sliding_window": None},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "olmo": {},
    "olmo2": {},
    "olmo3": _PERIOD_4,
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "olmo_hybrid": _LINEAR,
    "granite": {"residual_multiplier": 0.3, "embedding_multiplier": 2.0, "logits_scaling": 2.0},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoehybrid": {
        **_MAMBA,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 48,
    },
    "cohere": {"logit_scale": 0.25},
    "cohere2": {**_PERIOD_4, "logit_scale": 0.25},
    "glm": {},
    "glm4": {},
    "glm4_moe": {
        **_EXPERTS,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    "glm4_moe_lite": {**_LATENT, "mlp_layer_types": ["dense", "sparse"]},
    "gpt_oss": {**_WINDOWS, "num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "minimax_m2": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "laguna": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "deepseek_v2": {**_LATENT, "topk_method": "greedy"},
    "deepseek_v3": _LATENT,
    "minicpm3": {
        "q_lora_rank": 32,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {**_EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 128},
    "nemotron_h": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "n_groups": 1,
        "ssm_state_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 48,
    },
    "bamba": {**_MAMBA, "attn_layer_indices": [1], "mamba_expand": 2},
    "gemma3": {"text": "gemma3_text"},
    "gemma4": {"text": "gemma4_text"},
    "mistral3": {"text": "mistral"},
    "qwen2_5_vl": {"text": "qwen2", "rope_parameters": _SECTIONS},
    "qwen3_vl": {"text": "qwen3", "rope_parameters": _SECTIONS},
    "qwen3_5": {"text": "qwen3_5_text", "rope_parameters": _PARTIAL},
    "qwen3_5_moe": {"text": "qwen3_5_moe_text", "rope_parameters": _PARTIAL},
    "llama4": {"text": "llama"},
}
"""Each `model_type` with what it needs beside `SIZES`; `text` marks a model that also sees, by its text side."""
_VISION: dict[str, Options] = {
    "gemma3": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    "mistral3": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    "qwen2_5_vl": {"hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 2, "out_hidden_size": 64},
    "qwen3_5": {"hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 2, "out_hidden_size": 64},
    "qwen3_5_moe": {"hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 2, "out_hidden_size": 64},
    "qwen3_vl": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "depth": 1,
        "num_heads": 2,
        "out_hidden_size": 64,
        "deepstack_visual_indexes": [0],
    },
}


def tiny_config(name: str, tokens: Options | None = None) -> Any:
    """transformers' configuration of a tiny model; `tokens`: the vocabulary's size and special tokens."""
    return _config(name, SIZES, tokens or known_tokens())


def medium_config(name: str) -> Any:
    """The same blocks wide enough for a step's memory to mean something, with towers as their class has them."""
    tokens = {"vocab_size": 32_000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return _config(name, MEDIUM, tokens)


def known_tokens() -> Options:
    """What the built-in tokenizer needs of a model, with room for the tokens that a family's own tokenizer adds."""
    from engine.demo.paths import model_dir

    known = json.loads((model_dir() / "config.json").read_text(encoding="utf-8"))
    tokens = {key: known[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {"vocab_size": known["vocab_size"] + 64, **tokens}


def write_tiny(name: str, folder: Path) -> Path:
    """A random model of type `name` with the built-in tokenizer, as a directory in the Hugging Face layout."""
    import torch

    from engine.demo.paths import model_dir
    from engine.modeling.wrappers import generating_class

    config = tiny_config(name)
    torch.manual_seed(0)
    generating_class(config).from_config(config, dtype=torch.float32).save_pretrained(folder)
    for part in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model_dir() / part, folder / part)
    return folder


def _config(name: str, sizes: Options, tokens: Options) -> Any:
    from transformers import AutoConfig

    text = TYPES[name].get("text")
    inner = _fitted({**sizes, **tokens, **TYPES.get(text or "", {}), **TYPES[name]})
    inner.pop("text", None)
    if text is None:
        return AutoConfig.for_model(name, **inner)
    vision = _VISION.get(name, {}) if sizes is SIZES else {}
    ends = {"out_hidden_size": inner["hidden_size"]} if name.startswith("qwen") else {}
    return AutoConfig.for_model(name, text_config=inner, vision_config={**vision, **ends})


def _fitted(options: Options) -> Options:
    """Lists a layer long for each layer, and each table of embeddings as long as the vocabulary."""
    layers = options["num_hidden_layers"]
    repeated = {
        key: (value * layers)[:layers]
        for key, value in options.items()
        if key in ("layer_types", "no_rope_layers", "layers_block_type") and value
    }
    if kinds := options.get("mlp_layer_types"):
        # Dense layers come first, and not again.
        repeated["mlp_layer_types"] = (kinds + kinds[-1:] * layers)[:layers]
    more = {"vocab_size_per_layer_input": options["vocab_size"]} if "vocab_size_per_layer_input" in options else {}
    if "mamba_n_heads" in options and "mamba_d_ssm" not in options:
        # As wide as two hidden states.
        more["mamba_n_heads"] = 2 * options["hidden_size"] // options["mamba_d_head"]
    return {**options, **repeated, **more, **_turned(options)}


def _turned(options: Options) -> Options:
    """Sections of a rotation for places in images, which fill half a head."""
    turning = options.get("rope_parameters", {})
    if "mrope_section" not in turning:
        return {}
    parts = [part * options["head_dim"] // SIZES["head_dim"] for part in turning["mrope_section"]]
    return {"rope_parameters": {**turning, "mrope_section": parts}}
