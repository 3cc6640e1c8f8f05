"""A merged model's directory as a GGUF file, for llama.cpp, Ollama and LM Studio. Pure Python, tensor by tensor.

Llama, Mistral and Qwen families with byte-level tokenizers. Names and metadata are those of llama.cpp's converter
(gguf-py's tensor map); rows of query and key projections of Llama-like models are put into llama.cpp's order of
rotated halves. What is not covered is refused with the way round it. `gguf_files.py` compares the file with its source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from engine.errors import EngineError, ExitCode
from engine.export import gguf_rope
from engine.runs.files import read_json

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""model_type -> llama.cpp's architecture."""
_EDGES = ("token_embd.weight", "output.weight")
"""Kept in 8 bits where the layers have fewer: their errors reach every token."""
_HINT = "convert the merged model with llama.cpp's convert_hf_to_gguf.py"


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
    _add_tokens(writer, merged, config, architecture, otherwise)
    _add_special(writer, merged, config, set(ends))
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), int(config["num_hidden_layers"]))
    for key, tensor in _tensors(merged):
        place = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise _refused(f"the tensor {key} has no place in a GGUF of this family")
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
        raise _refused(f"models of the family '{config.get('model_type')}' are not written as GGUF (known: {known})")
    if reason := gguf_rope.refusal(config):
        raise _refused(reason)
    return architecture


def _refused(message: str) -> EngineError:
    return EngineError(message, code=ExitCode.MODEL, where="export.gguf", hint=_HINT)


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


def _add_tokens(writer: Any, merged: Path, config: dict[str, Any], architecture: str, otherwise: list[str]) -> None:
    """The vocabulary, its merges, special ids and the chat template."""
    parts = json.loads((merged / "tokenizer.json").read_text(encoding="utf-8"))
    if parts["model"].get("type") != "BPE" or "ByteLevel" not in json.dumps(parts.get("decoder")):
        raise _refused("only byte-level BPE tokenizers are written as GGUF")
    size = int(config["vocab_size"])
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    for token, number in parts["model"]["vocab"].items():
        tokens[number], kinds[number] = token, int(gguf.TokenType.NORMAL)
    for added in parts.get("added_tokens", []):
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], int(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitter(parts, architecture, otherwise))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    pairs = parts["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in pairs])
    # The template writes every special token itself.
    writer.add_add_bos_token(False)
    template = _template(merged)
    if template:
        writer.add_chat_template(template)


def _add_special(writer: Any, merged: Path, config: dict[str, Any], ends: set[int]) -> None:
    """Ids of special tokens. llama.cpp stops at the end of a text and of a turn: two ids where they differ."""
    generation = merged / "generation_config.json"
    stops = _ids(read_json(generation).get("eos_token_id")) if generation.is_file() else []
    known = [*_ids(config.get("eos_token_id")), *stops]
    eos = next(iter(known), None)
    turn = next((number for number in (*sorted(ends), *known) if number != eos), None)
    for add, number in (
        (writer.add_bos_token_id, next(iter(_ids(config.get("bos_token_id"))), None)),
        (writer.add_eos_token_id, eos),
        (writer.add_eot_token_id, turn),
        (writer.add_pad_token_id, next(iter(_ids(config.get("pad_token_id"))), None)),
    ):
        if number is not None:
            add(number)


def _ids(value: Any) -> list[int]:
    return [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)]


def _template(merged: Path) -> str:
    """The chat template, from its own file or the tokenizer's configuration; empty without one."""
    own = merged / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    config = merged / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.is_file() else None
    return found if isinstance(found, str) else ""


def _splitter(parts: dict[str, Any], architecture: str, otherwise: list[str]) -> str:
    """llama.cpp's name for how text is split before merging, by what the splitting pattern does with digits."""
    text = json.dumps(parts.get("pre_tokenizer"))
    if architecture.startswith("qwen"):
        return "qwen2"
    if "{1,3}" in text:
        return "tekken" if "Lu" in text else "llama-bpe"
    if "Digits" in text:
        return "smollm"
    if "Split" in text:
        otherwise.append(
            "the tokenizer splits text in a way without a name here: llama.cpp is told gpt-2's, which may differ"
        )
    return "gpt-2"


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
