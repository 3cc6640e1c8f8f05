"""A merged model's directory as a GGUF file, for llama.cpp, Ollama and LM Studio. Pure Python, tensor by tensor.

Families whose row in `engine.models.families` says how. Names and metadata are those of llama.cpp's converter
(gguf-py's tensor map); where llama.cpp rotates neighbors, rows of query and key projections are put into its order, the
norms of Gemma have 1 added, and experts are stacked.
What is not covered is refused with the way round it. `gguf_files.py` compares the file with its source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from engine.export import gguf_families
from engine.export.formats import BY_NAME
from engine.export.gguf_tokens import add_special, add_tokens, refused
from engine.files import read_json
from engine.modeling import gguf_rope
from engine.models.families import FAMILIES, Gguf, family_of

_EDGES = ("token_embd.weight", "output.weight")
"""Kept in 8 bits where the layers have fewer: their errors reach every token."""
_ROUTER, _SHARED_GATE = ".ffn_gate_inp.weight", ".ffn_gate_inp_shexp.weight"
"""Which experts a token goes to, and how much of the shared one: in fp32, the latter a vector."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor of the file before it is written: where from, name, shape, stored type."""

    keys: tuple[str, ...]
    """Of the merged model; several where experts are stacked."""
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
    gguf_families.add_metadata(writer, config)
    otherwise: list[str] = [] if covered.knows_windows else _windows(config)
    add_tokens(writer, merged, config, covered, otherwise)
    add_special(writer, merged, config, set(ends))
    names = gguf.get_tensor_name_map(
        getattr(gguf.MODEL_ARCH, covered.architecture.upper()), int(config["num_hidden_layers"])
    )
    plan = _plan(merged, config, names, kind, otherwise)
    divisors = gguf_rope.divisors(config, _width(config))
    if divisors is not None:
        writer.add_tensor_info(gguf_rope.FREQS, divisors.shape, divisors.dtype, divisors.nbytes)
    for planned in plan:
        writer.add_tensor_info(planned.place, planned.shape, np.dtype(np.float32), planned.size_bytes, planned.stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if divisors is not None:
        writer.write_tensor_data(divisors)
    with _opened(merged) as tensor_of:
        for planned in plan:
            parts = [_values(tensor_of(key), key, config, covered) for key in planned.keys]
            data = parts[0] if len(parts) == 1 else np.stack(parts)
            writer.write_tensor_data(gguf.quants.quantize(data.reshape(planned.shape), planned.stored))
    writer.close()
    return otherwise


def check_family(config: dict[str, Any]) -> Gguf:
    """How llama.cpp takes a model of this family. Raises EngineError(MODEL) for one that is not covered."""
    # A model that also sees keeps its text part under a name of its own.
    covered = None if "text_config" in config else family_of(str(config.get("model_type"))).gguf
    if covered is None:
        known = ", ".join(row.name for row in FAMILIES.values() if row.gguf)
        raise refused(f"models of the family '{config.get('model_type')}' are not written as GGUF (known: {known})")
    if reason := gguf_rope.refusal(config) or gguf_families.refusal(config):
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


@contextmanager
def _opened(merged: Path) -> Iterator[Callable[[str], torch.Tensor]]:
    """Any tensor of a directory of safetensors by its name, from files that are opened once."""
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in sorted(merged.glob("*.safetensors"))]
        owners = {key: file for file in files for key in file.keys()}  # noqa: SIM118 - not a dict
        yield lambda key: owners[key].get_tensor(key)


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
    return data + 1 if covered.shifts_norms and key.endswith("norm.weight") else data


def _plan(merged: Path, config: dict[str, Any], names: Any, kind: str, otherwise: list[str]) -> list[Planned]:
    """Every tensor of the file: shapes are known before any value is read."""
    keys: dict[str, list[str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(merged.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                keys.setdefault(_place(key, names), []).append(key)
                shapes[key] = tuple(file.get_slice(key).get_shape())
    experts = gguf_families.experts_of(config)
    plan = []
    for place, found in keys.items():
        parts = sorted(found, key=_number)
        shape = _shape(place, parts, shapes, experts)
        plan.append(Planned(tuple(parts), place, shape, _stored_type(place, shape, kind, otherwise)))
    return plan


_EXPERT = re.compile(r"\.experts\.(\d+)\.")


def _place(key: str, names: Any) -> str:
    """llama.cpp's name for a tensor; that of all experts for one of them."""
    place = names.get_name(_EXPERT.sub(".experts.", key), try_suffixes=(".weight", ".bias"))
    if place is None:
        raise refused(f"the tensor {key} has no place in a GGUF of this family")
    return str(place)


def _number(key: str) -> int:
    """Which expert a tensor belongs to; 0 for those of none."""
    found = _EXPERT.search(key)
    return int(found[1]) if found else 0


def _shape(place: str, keys: list[str], shapes: dict[str, tuple[int, ...]], experts: int) -> tuple[int, ...]:
    """Of one tensor or of all experts' stacked. Raises EngineError(MODEL) for what cannot be one tensor."""
    shape = shapes[keys[0]]
    if _EXPERT.search(keys[0]):
        if [_number(key) for key in keys] != list(range(experts)) or {shapes[key] for key in keys} != {shape}:
            raise refused(f"{place} is not {experts} matrices of one shape, one for each expert")
        return (experts, *shape)
    if len(keys) > 1:
        raise refused(f"the tensors {' and '.join(keys)} have one place in a GGUF of this family")
    return shape[-1:] if place.endswith(_SHARED_GATE) else shape


def _stored_type(place: str, shape: tuple[int, ...], kind: str, otherwise: list[str]) -> gguf.GGMLQuantizationType:
    """Vectors and routers in fp32, matrices as asked; one whose rows do not fill blocks stays in 16 bits."""
    if len(shape) < 2 or place.endswith(_ROUTER):
        return gguf.GGMLQuantizationType.F32
    wanted = BY_NAME[kind].edges if place in _EDGES else kind
    stored = gguf.GGMLQuantizationType[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[stored]
    if shape[-1] % block:
        otherwise.append(f"{place} has rows of {shape[-1]} values, no multiple of {block}: kept in f16")
        return gguf.GGMLQuantizationType.F16
    return stored
