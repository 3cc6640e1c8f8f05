"""A GGUF file as a transformers model, for architectures that transformers' own reader does not have.

The configuration comes from the file's numbers (`gguf_configs.py`), the tensors back through gguf-py's map of names
(`gguf_tensors.py`). A tensor that is missing, of another shape, or left over is an error: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from engine.modeling import gguf_configs, gguf_rope, gguf_tensors
from engine.modeling.gguf_open import reader_of
from engine.models.families import family_of


def model_of(path: Path, dtype: torch.dtype) -> Any | None:
    """The model in `path`; None where this engine does not read its architecture itself.

    Raises ValueError for a file whose tensors are not those of its architecture.
    """
    reader = reader_of(path)
    reading = gguf_configs.reading_of(reader)
    if reading is None:
        return None
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(gguf_configs.config_of(reader, reading), dtype=dtype)
    _fill(model, reader)
    return model.eval()


@torch.no_grad()
def _fill(model: Any, reader: gguf.GGUFReader) -> None:
    covered = family_of(model.config.model_type).gguf
    assert covered is not None
    left = {tensor.name: tensor for tensor in reader.tensors}
    config = model.config.to_dict()
    names = gguf_tensors.names_of(gguf_configs.architecture_of(reader), int(config["num_hidden_layers"]))
    own = model.state_dict()
    for key, target in own.items():
        if key == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        if ".act_fn." in key:
            target.fill_(_of_activation(reader, key))
            continue
        parts = [_taken(left, place, key) for place in _places(key, names)]
        data = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        _copy(target, gguf_tensors.from_file(data, key, config, covered), key)
    left.pop(gguf_rope.FREQS, None)
    if left:
        raise ValueError(f"the tensors {', '.join(sorted(left)[:3])} have no place in a model of this architecture")
    model.tie_weights()


def _places(key: str, names: Any) -> Iterator[str]:
    """llama.cpp's names of what a tensor of the model holds: its experts' gate and up are one tensor there."""
    kinds = ("gate_proj", "up_proj") if key.endswith(".experts.gate_up_proj") else ("",)
    for kind in kinds:
        name = f"{key.rpartition('.')[0]}.{kind}" if kind else key
        place = gguf_tensors.place_of(name, names)
        if place is None:
            raise ValueError(f"the model's {key} has no place in a GGUF of this architecture")
        yield place if place.endswith((".weight", ".bias")) else f"{place}.weight"


def _taken(left: dict[str, Any], place: str, key: str) -> np.ndarray:
    tensor = left.pop(place, None)
    if tensor is None:
        raise ValueError(f"the tensor {place} is missing ({key})")
    return gguf.dequantize(tensor.data, tensor.tensor_type)


def _copy(target: torch.Tensor, data: np.ndarray, key: str) -> None:
    if tuple(data.shape) != tuple(target.shape):
        raise ValueError(f"{key} has the shape {list(data.shape)}, and {list(target.shape)} belongs there")
    target.copy_(torch.from_numpy(np.array(data)))


def _of_activation(reader: gguf.GGUFReader, key: str) -> float:
    """One number of a layer's activation, of which the file has a list a layer long."""
    layer, name = int(key.split(".")[2]), key.rpartition(".")[2]
    field = reader.get_field(f"xielu.{name}")
    if field is None:
        raise ValueError(f"the list xielu.{name} is missing ({key})")
    return float(field.contents()[layer])
