"""Counting parameters from the headers of safetensors files, without reading a tensor.

Not here: loading weights (the worker does, with the safetensors library, which brings numpy or torch with it). The
format: 8 bytes of little-endian length, then JSON.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.models.layers import LayerGroup, grouped
from engine.text import sanitize

MAX_HEADER_BYTES = 100 * 1024**2
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_KNOWN = _FLOATS | {"F8_E8M0", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_LAYER = re.compile(r"\bmodel\.layers\.(\d{1,6})\.")
_TOWERS = ("vision", "visual", "projector", "audio", "connector", "image_newline")
_BUFFERS = ("rotary_emb", "attention.bias")
_IN_NO_PRODUCT = ("embed", "position", "conv")


@dataclass(frozen=True, slots=True)
class Counted:
    """What the headers say: parameters of the text model, their commonest dtype, output head stored or not."""

    parameters: int
    dtype: str
    has_output_head: bool
    towers: tuple[LayerGroup, ...] = ()
    """What is stored beside the text model."""


def count_parameters(directory: Path, layers: int | None = None) -> Counted | None:
    """Sum over all *.safetensors in `directory`; None when there are none. EngineError for a damaged file.

    Layers behind the `layers` of the text model are left out: what predicts several tokens at once (DeepSeek V3,
    GLM-4.7-Flash) is in the files, and transformers does not load it.
    """
    files = sorted(directory.glob("*.safetensors"))
    sizes: Counter[str] = Counter()
    head = False
    towers: list[LayerGroup] = []
    for file in files:
        for name, tensor in read_header(file).items():
            if name == "__metadata__" or any(part in name for part in _BUFFERS) or _is_behind(name, layers):
                continue
            dtype, shape = _tensor(tensor, file)
            if any(part in name for part in _TOWERS):
                towers.append(_of_tower(name, shape))
                continue
            sizes[dtype] += prod(shape)
            head = head or name.endswith("lm_head.weight")
    if not sizes:
        return None
    common = sizes.most_common(1)[0][0]
    return Counted(sum(sizes.values()), _DTYPES.get(common, common.lower()), head, grouped(towers))


def _of_tower(name: str, shape: list[int]) -> LayerGroup:
    """One tensor as a layer: two sides are those of a linear layer, unless its name says otherwise."""
    if (
        len(shape) != 2
        or not name.endswith(".weight")
        or any(part in name.rsplit(".", 2)[-2] for part in _IN_NO_PRODUCT)
    ):
        return LayerGroup(1, (), stacked=prod(shape))
    return LayerGroup(1, (("stored", shape[1], shape[0]),))


def _is_behind(name: str, layers: int | None) -> bool:
    found = _LAYER.search(name) if layers is not None else None
    return found is not None and int(found[1]) >= (layers or 0)


def read_header(file: Path) -> dict[str, Any]:
    """The JSON header of one file, after its length was held against the file's size."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise _damaged(file, f"its header says {length} bytes and the file has {size}")
            header = json.loads(stream.read(length))
    except OSError as error:
        raise _damaged(file, f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(file, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(file, "its header is not a JSON object")
    _check_length(file, header, size - 8 - length)
    return header


def _check_length(file: Path, header: dict[str, Any], data_bytes: int) -> None:
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__" and _offsets(entry)]
    if ends and max(ends) > data_bytes:
        raise _damaged(file, f"it is cut short: {data_bytes} of {max(ends)} bytes of tensors are there")


def _offsets(entry: Any) -> bool:
    found = entry.get("data_offsets") if isinstance(entry, dict) else None
    return isinstance(found, list) and len(found) == 2 and all(isinstance(item, int) for item in found)


def _tensor(tensor: Any, file: Path) -> tuple[str, list[int]]:
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    dtype = tensor.get("dtype") if isinstance(tensor, dict) else None
    valid = isinstance(shape, list) and all(isinstance(item, int) and item >= 0 for item in shape)
    if not valid or dtype not in _KNOWN:
        raise _damaged(file, "a tensor's entry has no known dtype and shape")
    assert isinstance(shape, list)
    return str(dtype), shape


def _damaged(file: Path, problem: str) -> EngineError:
    return EngineError(
        f"the weight file is damaged: {problem}",
        code=ExitCode.MODEL,
        where=sanitize(str(file), single_line=True),
        hint="download it again",
    )
