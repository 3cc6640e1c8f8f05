"""Small random models of every family that is written as GGUF, each with all that its files say.

Norms, biases and routers are drawn anew: at their start a wrong order or a missing 1 would not show.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

Options = dict[str, Any]

SIZES: Options = {
    "vocab_size": 1600,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_PLAIN: Options = {"rope_type": "default", "rope_theta": 10_000.0}
_SHORT: Options = {"rope_theta": 10_000.0, "original_max_position_embeddings": 32}
_LLAMA3: Options = {
    **_SHORT,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
_YARN: Options = {**_SHORT, "rope_type": "yarn", "factor": 8.0, "beta_fast": 16.0, "beta_slow": 1.0}
_TURNS: Options = {"sliding_window": 32, "layer_types": (["sliding_attention"] * 3 + ["full_attention"])}
_EXPERTS: Options = {"num_experts": 5, "num_experts_per_tok": 2}
_SECTIONS: Options = {**_PLAIN, "mrope_section": [3, 3, 2]}
_GEMMA: Options = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32}
_GEMMA3: Options = {**_GEMMA, "num_hidden_layers": 7}

CASES: dict[str, tuple[str, Options]] = {
    "llama": ("llama", {"rope_parameters": _LLAMA3}),
    "mistral": ("mistral", {"sliding_window": None, "rope_parameters": _YARN}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen2_moe": (
        "qwen2_moe",
        {**_EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 96, "layer_types": None},
    ),
    "qwen3_moe": ("qwen3_moe", {**_EXPERTS, "moe_intermediate_size": 32, "head_dim": 32, "norm_topk_prob": True}),
    "gemma": ("gemma", {"head_dim": 32}),
    "gemma2": ("gemma2", {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3_text": ("gemma3_text", _GEMMA3),
    "phi3": ("phi3", {"sliding_window": None}),
    "smollm3": ("smollm3", {"num_hidden_layers": 5}),
    "arcee": ("arcee", {"head_dim": 16}),
    "apertus": ("apertus", {"rope_parameters": _LLAMA3}),
    "seed_oss": ("seed_oss", {"head_dim": 32}),
    "ernie4_5": ("ernie4_5", {"head_dim": 32}),
    "hunyuan_v1_dense": (
        "hunyuan_v1_dense",
        {
            "head_dim": 32,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "alpha": 1000.0, "factor": 1.0},
        },
    ),
    "ministral3": (
        "ministral3",
        {
            "head_dim": 32,
            "rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
        },
    ),
    "cohere2": ("cohere2", {**_TURNS, "logit_scale": 0.25}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", _TURNS),
    "olmo3 yarn": (
        "olmo3",
        {
            **_TURNS,
            "rope_parameters": {
                "full_attention": _YARN,
                "sliding_attention": _PLAIN,
            },
        },
    ),
    "olmoe": ("olmoe", {**_EXPERTS, "num_key_value_heads": 4}),
    "granite": (
        "granite",
        {"residual_multiplier": 0.3, "embedding_multiplier": 2.0, "logits_scaling": 2.0, "attention_multiplier": 0.1},
    ),
    "exaone4": (
        "exaone4",
        {**_TURNS, "sliding_window": None, "layer_types": ["full_attention"], "rope_parameters": _LLAMA3},
    ),
    "exaone4 windows": ("exaone4", {**_TURNS, "num_hidden_layers": 64}),
    "glm4": ("glm4", {"head_dim": 16}),
    "mixtral": ("mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None}),
    "nemotron": ("nemotron", {"head_dim": 16}),
    "phimoe": ("phimoe", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "gemma3": ("gemma3", {"text": "gemma3_text", **_GEMMA3}),
    "mistral3": ("mistral3", {"text": "mistral", "sliding_window": None, "head_dim": 32}),
    "mistral3 of ministral3": (
        "mistral3",
        {
            "text": "ministral3",
            "head_dim": 32,
            "rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
        },
    ),
    # llama.cpp leaves the epsilon of its norms at 0, whatever the file says.
    "qwen2_5_vl": ("qwen2_5_vl", {"text": "qwen2_5_vl_text", "rope_parameters": _SECTIONS, "rms_norm_eps": 1e-9}),
    "qwen3_vl": ("qwen3_vl", {"text": "qwen3_vl_text", "head_dim": 16, "rope_parameters": _SECTIONS}),
}
"""Name with `model_type` and what it needs beside `SIZES`; `text` marks a model that also sees, by its text side."""


def write_model(case: str, folder: Path) -> Path:
    """A random model of the case in bf16, with the built-in tokenizer."""
    import torch

    from engine.demo.paths import model_dir

    config = config_of(case)
    torch.manual_seed(0)
    model = _class_of(config).from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, mean=float(weight.detach().float().mean()), std=0.3)
        elif name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
        elif name.endswith(("gate.weight", "shared_expert_gate.weight", "router.weight")):
            torch.nn.init.normal_(weight, std=0.5)
        elif ".act_fn." in name:
            torch.nn.init.normal_(weight, mean=0.5, std=0.2)
    model.to(torch.bfloat16).save_pretrained(folder)
    for part in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (model_dir() / part).is_file():
            shutil.copyfile(model_dir() / part, folder / part)
    return folder


def config_of(case: str) -> Any:
    """transformers' configuration of a case."""
    from transformers import AutoConfig

    from bench.family_models import _VISION

    kind, own = CASES[case]
    options = {**SIZES, "initializer_range": 0.08, **own}
    text = options.pop("text", None)
    layers = int(options["num_hidden_layers"])
    if options.get("layer_types"):
        options["layer_types"] = (options["layer_types"] * layers)[:layers]
    if text is None:
        return AutoConfig.for_model(kind, **options)
    tied = {"tie_word_embeddings": kind == "gemma3"}
    inner = {**options, "model_type": text}
    return AutoConfig.for_model(kind, text_config=inner, vision_config=_VISION[kind], **tied)


def _class_of(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    known = type(config) in AutoModelForCausalLM._model_mapping
    return AutoModelForCausalLM if known else AutoModelForImageTextToText


def load(folder: Path) -> Any:
    """The model of a directory in fp32."""
    import torch
    from transformers import AutoConfig

    return _class_of(AutoConfig.from_pretrained(folder)).from_pretrained(folder, dtype=torch.float32).eval()
