"""A .gguf file's metadata as a `ModelSpec`: numbers and tensor shapes only, bounded reads.

The `gguf` package would do this too, but brings numpy, which may not be imported where `engine fit` runs. Not here:
weights. Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import EngineError, ExitCode
from engine.models.families import FAMILIES, known_family
from engine.models.family import Family
from engine.models.spec import ModelSpec
from engine.text import sanitize

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_ITEMS = 2_000_000
_MAX_STRING = 16 * 1024**2
_MAX_TENSORS = 100_000
_WEIGHT_TYPES = {0: "float32", 1: "float16", 30: "bfloat16"}


def spec_from_gguf(path: Path) -> ModelSpec:
    """Numbers of the model in `path`; EngineError(MODEL) for a damaged or unknown file."""
    try:
        with path.open("rb") as stream:
            metadata, tensors = _read(stream)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, OverflowError) as error:
        raise _damaged(path, f"is not a readable GGUF file ({error})") from None
    return _spec(path, metadata, tensors)


def _read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], int]]]:
    if stream.read(4) != b"GGUF":
        raise ValueError("it does not start with GGUF")
    version = _unpack(stream, "<I")
    if version not in (2, 3):
        raise ValueError(f"version {version}, known are 2 and 3")
    tensor_count, pair_count = _unpack(stream, "<Q"), _unpack(stream, "<Q")
    if tensor_count > _MAX_TENSORS or pair_count > _MAX_TENSORS:
        raise ValueError("its counts are implausible")
    metadata = {_string(stream): _value(stream, _unpack(stream, "<I")) for _ in range(pair_count)}
    return metadata, dict(_tensor(stream) for _ in range(tensor_count))


def _unpack(stream: BinaryIO, layout: str) -> Any:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))[0]


def _string(stream: BinaryIO) -> str:
    length = _unpack(stream, "<Q")
    if length > _MAX_STRING:
        raise ValueError("a string is implausibly long")
    raw = stream.read(length)
    if len(raw) != length:
        raise ValueError("it ends in the middle of a string")
    return raw.decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    """A scalar or string; of an array only its length, which is all the vocabulary is needed for."""
    if kind in _SCALARS:
        return _unpack(stream, _SCALARS[kind])
    if kind == _STRING:
        return _string(stream)
    if kind != _ARRAY:
        raise ValueError(f"unknown value type {kind}")
    item, count = _unpack(stream, "<I"), _unpack(stream, "<Q")
    if count > _MAX_ITEMS or item == _ARRAY:
        raise ValueError("an array is implausible")
    if item in _SCALARS:
        stream.seek(count * struct.calcsize(_SCALARS[item]), 1)
    else:
        for _ in range(count):
            _skip_string(stream)
    return range(count)


def _skip_string(stream: BinaryIO) -> None:
    length = _unpack(stream, "<Q")
    if length > _MAX_STRING:
        raise ValueError("a string is implausibly long")
    stream.seek(length, 1)


def _tensor(stream: BinaryIO) -> tuple[str, tuple[tuple[int, ...], int]]:
    name, dimensions = _string(stream), _unpack(stream, "<I")
    if dimensions > 8:
        raise ValueError("a tensor has more than 8 dimensions")
    shape = tuple(_unpack(stream, "<Q") for _ in range(dimensions))
    kind = _unpack(stream, "<I")
    stream.seek(8, 1)
    return name, (shape, kind)


def _spec(path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int]]) -> ModelSpec:
    family = str(metadata.get("general.architecture", ""))
    kind = _family(family, metadata)
    if kind is None or kind.layout or kind.refused:
        raise _unknown(path, family)

    def number(key: str, fallback: int | None = None) -> int:
        value = metadata.get(f"{family}.{key}", fallback)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**9:
            raise _damaged(path, f"has no usable '{family}.{key}'")
        return value

    hidden, heads = number("embedding_length"), number("attention.head_count")
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    tied = "output.weight" not in tensors
    return ModelSpec(
        name=sanitize(str(metadata.get("general.name") or path.name), max_chars=120, single_line=True),
        family=kind.name,
        hidden_size=hidden,
        intermediate_size=number("feed_forward_length"),
        num_hidden_layers=number("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", max(1, hidden // heads)),
        vocab_size=number("vocab_size", len(vocabulary) if isinstance(vocabulary, range) else None),
        max_position_embeddings=number("context_length", 2048),
        tie_word_embeddings=tied,
        attention_bias="blk.0.attn_q.bias" in tensors,
        fused_projections="blk.0.attn_qkv.weight" in tensors,
        gated_mlp=kind.gated_mlp and (_is_joined(kind, tensors) or "blk.0.ffn_gate.weight" in tensors),
        sliding_window=metadata.get(f"{family}.attention.sliding_window") or None,
        num_experts=int(metadata.get(f"{family}.expert_count") or 0),
        num_experts_per_token=int(metadata.get(f"{family}.expert_used_count") or 0),
        weights_dtype=_weights_dtype(tensors),
        parameters=sum(prod(shape) for shape, _ in tensors.values()) or None,
        licence=sanitize(str(metadata.get("general.license", "")), max_chars=40, single_line=True),
        source="gguf",
        path=str(path),
    )


def _family(architecture: str, metadata: dict[str, Any]) -> Family | None:
    """The row of llama.cpp's `architecture`: two families share some."""
    if architecture == "llama" and metadata.get("llama.expert_count"):
        return FAMILIES["mixtral"]
    if architecture == "olmo2" and metadata.get("olmo2.attention.sliding_window"):
        return FAMILIES["olmo3"]
    rows = ((row, row.gguf) for row in FAMILIES.values() if row.gguf)
    written = (row for row, own in rows if architecture and architecture in (own.architecture, own.wrapped))
    return known_family(architecture) or next(written, None)


def _is_joined(kind: Family, tensors: dict[str, Any]) -> bool:
    """Whether gate and up are one tensor, or those of experts."""
    return kind.fused_projections or kind.fused_gate or "blk.0.ffn_gate_exps.weight" in tensors


def _unknown(path: Path, family: str) -> EngineError:
    shown = sanitize(family, max_chars=40, single_line=True) or "none"
    return EngineError(
        f"the model file is of an architecture that cannot be read from GGUF here: {shown}",
        code=ExitCode.MODEL,
        where=sanitize(str(path), single_line=True),
        hint="use a directory with config.json and safetensors",
    )


def _weights_dtype(tensors: dict[str, tuple[tuple[int, ...], int]]) -> str:
    kinds = {kind for shape, kind in tensors.values() if len(shape) > 1}
    return _WEIGHT_TYPES.get(kinds.pop(), "quantized") if len(kinds) == 1 else "quantized"


def _damaged(path: Path, problem: str) -> EngineError:
    return EngineError(
        f"the model file {problem}",
        code=ExitCode.MODEL,
        where=sanitize(str(path), single_line=True),
        hint="download it again, or use a directory with config.json and safetensors",
    )
