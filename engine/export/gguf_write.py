"""A merged model's directory as a GGUF file, for llama.cpp, Ollama and LM Studio. Pure Python, tensor by tensor.

Families whose row in `engine.models.families` says how. Names and metadata are those of llama.cpp's converter
(gguf-py's tensor map); where llama.cpp rotates neighbors, rows of query and key projections are put into its order.
What is not covered is refused with the way round it. `gguf_files.py` compares the file with its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from engine.export.formats import BY_NAME
from engine.export.gguf_tokens import add_special, add_tokens, refused
from engine.files import read_json
from engine.modeling import gguf_rope
from engine.models.families import FAMILIES, Gguf, family_of

_EDGES = ("token_embd.weight", "output.weight")
"""Kept in 8 bits where the layers have fewer: their errors reach every token."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor of the file before it is written: name, shape, stored type."""

    place: str
    shape: tuple[int, ...]
    stored: gguf.GGMLQuantizationType

    @property
    def size_bytes(self) -> int:
        """Bytes of its blocks."""
        block, size = gguf.GGML_QUANT_SIZES[self.stored]
        return int(math.prod(self.shape) // block * size)


def write_gguf(merged: Path, target: Path, kind: str, name: str, ends: Iterable[int] = ()) -> list[str]:
    """Write `merged` as `target`, stored as `kind` of OWN_GGUF; what could not be done as asked, in words.

    `ends` are the tokens that ended answers in training.

    Raises EngineError(MODEL) for a family, tokenizer or position scaling that is not covered.
    """
    config = read_json(merged / "config.json")
    covered = check_family(config)
    writer = gguf.GGUFWriter(str(target), covered.architecture)
    writer.add_name(name)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.upper()}"))
    if kind.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    otherwise: list[str] = _windows(config)
    add_tokens(writer, merged, config, covered, otherwise)
    add_special(writer, merged, config, set(ends))
    names = gguf.get_tensor_name_map(
        getattr(gguf.MODEL_ARCH, covered.architecture.upper()), int(config["num_hidden_layers"])
    )
    plan = _plan(merged, config, names, kind, otherwise)
    divisors = gguf_rope.divisors(config, _width(config))
    if divisors is not None:
        writer.add_tensor_info(gguf_rope.FREQS, divisors.shape, divisors.dtype, divisors.nbytes)
    for planned in plan.values():
        writer.add_tensor_info(planned.place, planned.shape, np.dtype(np.float32), planned.size_bytes, planned.stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if divisors is not None:
        writer.write_tensor_data(divisors)
    for key, tensor in tensors_of(merged):
        if key in plan:
            writer.write_tensor_data(gguf.quants.quantize(_values(tensor, key, config, covered), plan[key].stored))
    writer.close()
    return otherwise


def check_family(config: dict[str, Any]) -> Gguf:
    """How llama.cpp takes a model of this family. Raises EngineError(MODEL) for one that is not covered."""
    covered = family_of(str(config.get("model_type"))).gguf
    if covered is None:
        known = ", ".join(row.name for row in FAMILIES.values() if row.gguf)
        raise refused(f"models of the family '{config.get('model_type')}' are not written as GGUF (known: {known})")
    if reason := gguf_rope.refusal(config):
        raise refused(reason)
    return covered


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    heads, width = int(config["num_attention_heads"]), _width(config)
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


def _width(config: dict[str, Any]) -> int:
    """Values of a head."""
    return int(config.get("head_dim") or config["hidden_size"] // int(config["num_attention_heads"]))


def _windows(config: dict[str, Any]) -> list[str]:
    window, context = config.get("sliding_window"), int(config["max_position_embeddings"])
    if not window or int(window) >= context or config.get("use_sliding_window") is False:
        return []
    return [f"llama.cpp knows no sliding window of this family: texts of more than {window} tokens are read otherwise"]


def tensors_of(merged: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and values of every tensor in a directory of safetensors, one at a time."""
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


def _values(tensor: torch.Tensor, key: str, config: dict[str, Any], covered: Gguf) -> np.ndarray:
    """fp32 values in llama.cpp's order."""
    data = tensor.float().numpy()
    if covered.rotates_neighbors and ".self_attn." in key and key.split(".")[-2] in ("q_proj", "k_proj"):
        return _rotated_order(data, _heads(config, key))
    return data


def _plan(merged: Path, config: dict[str, Any], names: Any, kind: str, otherwise: list[str]) -> dict[str, Planned]:
    """Every tensor of the file by its key in `merged`: shapes are known before any value is read."""
    found = {}
    for path in sorted(merged.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                place = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if place is None:
                    raise refused(f"the tensor {key} has no place in a GGUF of this family")
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                shape = tuple(file.get_slice(key).get_shape())
                found[key] = Planned(place, shape, _stored_type(place, shape, kind, otherwise))
    return found


def _stored_type(place: str, shape: tuple[int, ...], kind: str, otherwise: list[str]) -> gguf.GGMLQuantizationType:
    """Vectors in fp32, matrices as asked; one whose rows do not fill blocks stays in 16 bits."""
    if len(shape) < 2:
        return gguf.GGMLQuantizationType.F32
    wanted = BY_NAME[kind].edges if place in _EDGES else kind
    stored = gguf.GGMLQuantizationType[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[stored]
    if shape[-1] % block:
        otherwise.append(f"{place} has rows of {shape[-1]} values, no multiple of {block}: kept in f16")
        return gguf.GGMLQuantizationType.F16
    return stored
