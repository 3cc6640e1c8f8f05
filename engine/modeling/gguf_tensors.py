"""Tensors on the way between a Hugging Face checkpoint and a GGUF file: their names, the order of their rows, norms.

Names are those of gguf-py's own map. Where llama.cpp rotates neighbors, rows of query and key projections are put into
its order; where it adds nothing to a norm's weight, the 1 that the model adds is in the file. Both ways are here, side
by side: `to_file` for the export, `from_file` for what reads a file back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np

from engine.models.families import Gguf

ROUTER, SHARED_GATE = ".ffn_gate_inp.weight", ".ffn_gate_inp_shexp.weight"
"""Which experts a token goes to, and how much of the shared one: in fp32, the latter a vector."""
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_INSIDE = ("model.language_model.", "language_model.model.", "model.")
"""How the names of a text decoder begin inside a model that also sees, the longest first."""
_OF_TEXT = ("embed_tokens", "layers.", "norm.", "per_layer_")


def names_of(architecture: str, layers: int) -> Any:
    """gguf-py's map from a checkpoint's names to those of llama.cpp's `architecture`."""
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(kind, layers)


def place_of(key: str, names: Any) -> str | None:
    """llama.cpp's name for a tensor; that of all experts for one of them. None where it has no place."""
    found = names.get_name(_EXPERT.sub(".experts.", key), try_suffixes=(".weight", ".bias"))
    return None if found is None else str(found)


def expert_of(key: str) -> int | None:
    """Which expert a tensor belongs to; None for those of no single one."""
    found = _EXPERT.search(key)
    return int(found[1]) if found else None


def text_key(key: str) -> str | None:
    """The name that a tensor of a model that also sees would have in one of text alone; None outside the text."""
    if key.endswith("lm_head.weight"):
        return "lm_head.weight"
    for start in _INSIDE:
        rest = key.removeprefix(start)
        if rest != key:
            return f"model.{rest}" if rest.startswith(_OF_TEXT) else None
    return None


def to_file(data: np.ndarray, key: str, config: dict[str, Any], covered: Gguf) -> np.ndarray:
    """fp32 values of the tensor `key` as llama.cpp wants them."""
    return _changed(data, key, config, covered, _to_neighbors, 1.0)


def from_file(data: np.ndarray, key: str, config: dict[str, Any], covered: Gguf) -> np.ndarray:
    """The same, back."""
    return _changed(data, key, config, covered, _to_halves, -1.0)


def _changed(
    data: np.ndarray,
    key: str,
    config: dict[str, Any],
    covered: Gguf,
    reordered: Callable[[np.ndarray, int], np.ndarray],
    shift: float,
) -> np.ndarray:
    if covered.rotates_neighbors and ".self_attn." in key and key.split(".")[-2] in ("q_proj", "k_proj"):
        return reordered(data, _heads(config, key))
    return data + np.float32(shift) if covered.shifts_norms and key.endswith("norm.weight") else data


def _heads(config: dict[str, Any], key: str) -> int:
    heads = int(config["num_attention_heads"])
    return heads if ".q_proj." in key else int(config.get("num_key_value_heads") or heads)


def _to_neighbors(data: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from halves (transformers) to neighbors (llama.cpp)."""
    shape = data.shape
    return data.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _to_halves(data: np.ndarray, heads: int) -> np.ndarray:
    shape = data.shape
    return data.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
