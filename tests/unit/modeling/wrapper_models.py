"""Small random models that also see, each of transformers' own class, in a directory with a tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from engine.demo.paths import model_dir

_SIGLIP = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_EYES = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
_QWEN_TOKENS = {"image_token_id": 20, "video_token_id": 21, "vision_start_token_id": 22, "vision_end_token_id": 23}


def _text(**more: Any) -> dict[str, Any]:
    known = json.loads((model_dir() / "config.json").read_text())
    tokens = {key: known[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {**tokens, **sizes, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, **more}


def _gemma3() -> Any:
    text = _text(sliding_window=64, query_pre_attn_scalar=8, initializer_range=0.2)
    return transformers.Gemma3Config(text_config=text, vision_config=_SIGLIP, mm_tokens_per_image=4)


def _gemma4() -> Any:
    text = _text(sliding_window=64, hidden_size_per_layer_input=0, global_head_dim=8, num_kv_shared_layers=0)
    text |= {"layer_types": ["sliding_attention", "full_attention"], "final_logit_softcapping": 5.0}
    eyes = _SIGLIP | {"num_key_value_heads": 2, "head_dim": 8, "patch_size": 4}
    return transformers.Gemma4Config(text_config=text, vision_config=eyes, audio_config=None)


def _qwen(kind: Any, eyes: dict[str, Any], **turns: Any) -> Any:
    turning = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], **turns}
    return kind(text_config=_text(rope_parameters=turning), vision_config=_QWEN_EYES | eyes, **_QWEN_TOKENS)


def _qwen3_vl() -> Any:
    eyes = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0], "patch_size": 4}
    return _qwen(transformers.Qwen3VLConfig, eyes, mrope_interleaved=True)


def _qwen2_5_vl() -> Any:
    return _qwen(transformers.Qwen2_5_VLConfig, {"patch_size": 4, "fullatt_block_indexes": [1], "window_size": 16})


def _mistral3() -> Any:
    text = _text(model_type="mistral")
    eyes = _SIGLIP | {"model_type": "pixtral", "head_dim": 8}
    return transformers.Mistral3Config(text_config=text, vision_config=eyes, image_token_index=10)


CONFIGS: dict[str, Callable[[], Any]] = {
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "qwen3_vl": _qwen3_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "mistral3": _mistral3,
}


def make_wrapper(name: str, folder: Path) -> Path:
    """A wrapper that knows nothing, with the demo's tokenizer and the settings of an image processor."""
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(CONFIGS[name]())
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model_dir() / file, folder / file)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    return folder
