"""A merged model's directory as a GGUF file, for llama.cpp, Ollama and LM Studio. Pure Python, tensor by tensor.

Llama, Mistral and Qwen families. Names and metadata are those of llama.cpp's converter
(gguf-py's tensor map); rows of query and key projections of Llama-like models are put into llama.cpp's order of
rotated halves. What is not covered is refused with the way round it. `gguf_files.py` compares the file with its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from engine.export import gguf_rope
from engine.export.gguf_tokens import add_special, add_tokens, refused
from engine.runs.files import read_json

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""model_type -> llama.cpp's architecture."""
_EDGES = ("token_embd.weight", "output.weight")
"""Kept in 8 bits where the layers have fewer: their errors reach every token."""


def write_gguf(merged: Path, target: Path, kind: str, name: str, ends: Iterable[int] = ()) -> list[str]:
    """Write `merged` as `target`, stored as `kind` of OWN_GGUF; what could not be done as asked, in words.

    `ends` are the tokens that ended answers in training.

    Raises EngineError(MODEL) for a family, tokenizer or position scaling that is not covered.
    """
    config = read_json(merged / "config.json")
    architecture = check_family(config)
    writer = gguf.GGUFWriter(str(target), architecture, use_temp_file=True)
    writer.add_name(name)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.upper()}"))
    if kind.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    otherwise: list[str] = _windows(config)
    add_tokens(writer, merged, config, architecture, otherwise)
    add_special(writer, merged, config, set(ends))
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), int(config["num_hidden_layers"]))
    for key, tensor in _tensors(merged):
        place = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise refused(f"the tensor {key} has no place in a GGUF of this family")
        if key == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        data = tensor.float().numpy()
        if architecture == "llama" and ".self_attn." in key and key.split(".")[-2] in ("q_proj", "k_proj"):
            data = _rotated_order(data, _heads(config, key))
        _add(writer, place, data, kind, otherwise)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return otherwise


def check_family(config: dict[str, Any]) -> str:
    """llama.cpp's name of the model's architecture. Raises EngineError(MODEL) for one that is not covered."""
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise refused(f"models of the family '{config.get('model_type')}' are not written as GGUF (known: {known})")
    if reason := gguf_rope.refusal(config):
        raise refused(reason)
    return architecture


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    heads = int(config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    gguf_rope.add_rope(writer, config, width)


def _windows(config: dict[str, Any]) -> list[str]:
    window, context = config.get("sliding_window"), int(config["max_position_embeddings"])
    if not window or int(window) >= context or config.get("use_sliding_window") is False:
        return []
    return [f"llama.cpp knows no sliding window of this family: texts of more than {window} tokens are read otherwise"]


def _tensors(merged: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(merged.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                yield key, file.get_tensor(key)


def _heads(config: dict[str, Any], key: str) -> int:
    heads = int(config["num_attention_heads"])
    return heads if ".q_proj." in key else int(config.get("num_key_value_heads") or heads)


def _rotated_order(data: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from halves (transformers) to neighbours (llama.cpp)."""
    shape = data.shape
    return data.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _add(writer: Any, place: str, data: np.ndarray, kind: str, otherwise: list[str]) -> None:
    """Vectors in fp32, matrices as asked; one whose rows do not fill blocks stays in 16 bits."""
    if data.ndim < 2:
        writer.add_tensor(place, data.astype(np.float32))
        return
    wanted = "q8_0" if place in _EDGES and kind.startswith(("q4", "q5")) else kind
    stored = getattr(gguf.GGMLQuantizationType, wanted.upper())
    block, _ = gguf.GGML_QUANT_SIZES[stored]
    if data.shape[-1] % block:
        otherwise.append(f"{place} has rows of {data.shape[-1]} values, no multiple of {block}: kept in f16")
        stored = gguf.GGMLQuantizationType.F16
    writer.add_tensor(place, gguf.quants.quantize(data, stored), raw_dtype=stored)
