"""A merged model's directory as a GGUF file, for llama.cpp, Ollama and LM Studio. Pure Python, tensor by tensor.

Families whose row in `engine.models.families` says how. Names and metadata are those of llama.cpp's converter
(gguf-py's tensor map), the values as `engine.modeling.gguf_tensors` puts them; experts are stacked. Of a model that
also sees, the text model alone is written.
What is not covered is refused with the way round it. `gguf_files.py` compares the file with its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from engine.export import gguf_families, gguf_judges
from engine.export.formats import BY_NAME
from engine.export.gguf_tokens import add_special, add_tokens, refused
from engine.modeling import gguf_rope
from engine.modeling.gguf_tensors import ROUTER, SHARED_GATE, expert_of, names_of, place_of, text_key, to_file
from engine.models.families import Gguf, family_of

_EDGES = ("token_embd.weight", "output.weight")
"""Kept in 8 bits where the layers have fewer: their errors reach every token."""


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
    config, covered = described(merged)
    writer = gguf.GGUFWriter(str(target), covered.architecture)
    writer.add_name(name)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.upper()}"))
    if kind.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    gguf_families.add_shape(writer, config)
    gguf_families.add_metadata(writer, config, merged)
    otherwise = list(gguf_families.told(config, covered))
    add_tokens(writer, merged, config, covered, otherwise)
    add_special(writer, merged, config, set(ends))
    plan = _plan(merged, config, covered, kind, otherwise)
    divisors = gguf_rope.divisors(config, gguf_rope.width_of(config))
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
            parts = [to_file(tensor_of(key).float().numpy(), key, config, covered) for key in planned.keys]
            data = parts[0] if len(parts) == 1 else np.stack(parts)
            writer.write_tensor_data(gguf.quants.quantize(data.reshape(planned.shape), planned.stored))
    writer.close()
    return otherwise


def described(folder: Path) -> tuple[dict[str, Any], Gguf]:
    """The text model of a directory, every number named, and how llama.cpp takes its family.

    Raises EngineError(MODEL) for a family or a model of one that is not covered.
    """
    config = gguf_families.text_of(folder)
    covered = family_of(str(config.get("model_type"))).gguf
    if covered is None:
        raise refused(gguf_judges.unknown(config))
    if gguf_families.WRAPPED in config and covered.wrapped:
        covered = replace(covered, architecture=covered.wrapped)
    if reason := gguf_rope.refusal(config) or gguf_judges.refusal(config):
        raise refused(reason)
    return config, covered


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


def _plan(merged: Path, config: dict[str, Any], covered: Gguf, kind: str, otherwise: list[str]) -> list[Planned]:
    """Every tensor of the file: shapes are known before any value is read."""
    names = names_of(covered.architecture, int(config["num_hidden_layers"]))
    keys: dict[str, list[str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(merged.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                text = text_key(key) if gguf_families.WRAPPED in config else key
                if text is None or _left_out(text, config):
                    continue
                keys.setdefault(_place(text, names), []).append(key)
                shapes[key] = tuple(file.get_slice(key).get_shape())
    experts = gguf_families.experts_of(config)
    plan = []
    for place, found in keys.items():
        parts = sorted(found, key=lambda key: expert_of(key) or 0)
        shape = _shape(place, parts, shapes, experts)
        plan.append(Planned(tuple(parts), place, shape, _stored_type(place, shape, kind, otherwise)))
    return plan


def _left_out(key: str, config: dict[str, Any]) -> bool:
    """Whether llama.cpp has no tensor for it: a head that is the embedding, numbers that stand in the metadata."""
    return key.endswith(gguf_families.AS_METADATA) or (
        key == "lm_head.weight" and bool(config.get("tie_word_embeddings"))
    )


def _place(key: str, names: Any) -> str:
    place = place_of(key, names)
    if place is None:
        raise refused(f"the tensor {key} has no place in a GGUF of this family")
    return place


def _shape(place: str, keys: list[str], shapes: dict[str, tuple[int, ...]], experts: int) -> tuple[int, ...]:
    """Of one tensor or of all experts' stacked. Raises EngineError(MODEL) for what cannot be one tensor."""
    shape = shapes[keys[0]]
    if expert_of(keys[0]) is not None:
        if [expert_of(key) for key in keys] != list(range(experts)) or {shapes[key] for key in keys} != {shape}:
            raise refused(f"{place} is not {experts} matrices of one shape, one for each expert")
        return (experts, *shape)
    if len(keys) > 1:
        raise refused(f"the tensors {' and '.join(keys)} have one place in a GGUF of this family")
    return shape[-1:] if place.endswith(SHARED_GATE) else shape


def _stored_type(place: str, shape: tuple[int, ...], kind: str, otherwise: list[str]) -> gguf.GGMLQuantizationType:
    """Vectors and routers in fp32, matrices as asked; one whose rows do not fill blocks stays in 16 bits."""
    if len(shape) < 2 or place.endswith(ROUTER):
        return gguf.GGMLQuantizationType.F32
    wanted = BY_NAME[kind].edges if place in _EDGES else kind
    stored = gguf.GGMLQuantizationType[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[stored]
    if shape[-1] % block:
        otherwise.append(f"{place} has rows of {shape[-1]} values, no multiple of {block}: kept in f16")
        return gguf.GGMLQuantizationType.F16
    return stored
