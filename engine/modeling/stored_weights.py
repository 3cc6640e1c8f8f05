"""Checkpoints in MXFP4 or fine-grained FP8 as plain weights, one tensor at a time, on the device where it goes.

transformers dequantizes such files itself, but not into 4-bit layers, and it would store FP8 again what was learned.
Here its loader is handed plain tensors: each is put together from its packed values and their scales when it is its
turn, so that a single one is there in 16 bit where a whole model would not fit. Not here: which formats are read
(`engine.models.stored`), 4-bit experts (`experts_load.py`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from engine.models.stored import NAMES

_FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_EXPONENT_BIAS = 127
_PORTION_VALUES = 2**21
"""Values that are dequantized at a time: their fp32 copies and indices stay small beside a tensor."""
_UNUSED = (".activation_scale", ".input_scale")
"""Scales of activations, which plain weights do without."""
_EIGHT_BIT = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})


@dataclass(frozen=True, slots=True)
class Stored:
    """How a checkpoint's weights are stored."""

    method: str
    """`mxfp4` or `fp8`."""
    block: tuple[int, int] | None
    """Rows and columns that share a scale in FP8; None where the scales tell it."""


def stored_in(config: Any) -> Stored | None:
    """How the weights of a model with transformers' `config` are stored; None where they load as they are."""
    for part in (config, config.get_text_config()):
        settings = getattr(part, "quantization_config", None)
        settings = settings if settings is None or isinstance(settings, dict) else settings.to_dict()
        if settings and (method := str(settings.get("quant_method"))) in NAMES:
            sides = settings.get("weight_block_size")
            return Stored(method, (int(sides[0]), int(sides[1])) if sides else None)
    return None


def in_words(model: Any) -> str:
    """What became of the stored format of a loaded model; empty where its weights loaded as they are."""
    name = getattr(model, _MARK, "")
    return f"weights stored in {name} were dequantized" if name else ""


_MARK = "tunedeck_stored_in"


def mark(model: Any, stored: Stored | None) -> None:
    """Remember on `model` what its files held."""
    if stored is not None:
        setattr(model, _MARK, NAMES[stored.method])


@contextlib.contextmanager
def as_plain(config: Any, stored: Stored | None, device: str) -> Iterator[dict[str, Any]]:
    """While a model is loaded, its files look plain; yields what `from_pretrained` is given for it."""
    if stored is None:
        yield {}
        return
    from transformers import modeling_utils

    own = modeling_utils.convert_and_load_state_dict_in_model

    def load(model: Any, state_dict: dict[str, Any], load_config: Any, **more: Any) -> Any:
        dtype = load_config.dtype or torch.bfloat16
        return own(model=model, state_dict=plain(state_dict, stored, device, dtype), load_config=load_config, **more)

    with mock.patch.object(modeling_utils, "convert_and_load_state_dict_in_model", load):
        yield {"config": _without_format(config)}


def _without_format(config: Any) -> Any:
    found = copy.deepcopy(config)
    for part in (found, found.get_text_config()):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    return found


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor that is put together when it is asked for, as the loader asks a file's tensors."""

    values: Any
    scales: Any
    make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    device: str

    def __getitem__(self, _: Any) -> torch.Tensor:
        return self.make(self.values[...].to(self.device), self.scales[...].to(self.device))


@dataclass(frozen=True, slots=True)
class _Checked:
    """A tensor without scales, which may not be in 8 bit."""

    name: str
    values: Any

    def __getitem__(self, _: Any) -> torch.Tensor:
        found: torch.Tensor = self.values[...]
        if found.dtype in _EIGHT_BIT:
            raise ValueError(f"'{self.name}' is stored in 8 bit and has no scale beside it")
        return found


def plain(tensors: dict[str, Any], stored: Stored, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """`tensors` of a checkpoint by name, packed ones and their scales as one that is dequantized on `device`."""
    if stored.method == "mxfp4":
        return _plain_mxfp4(tensors, device, dtype)

    def make(values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return from_fp8(values, scales, stored.block, dtype)

    found: dict[str, Any] = {}
    for name, values in tensors.items():
        scales = tensors.get(f"{name}_scale_inv")
        if not name.endswith(("_scale_inv", *_UNUSED)):
            found[name] = _Checked(name, values) if scales is None else Packed(values, scales, make, device)
    return found


def _plain_mxfp4(tensors: dict[str, Any], device: str, dtype: torch.dtype) -> dict[str, Any]:
    def make(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return from_mxfp4(blocks, scales, dtype)

    found: dict[str, Any] = {}
    for name, values in tensors.items():
        whole = name.removesuffix("_blocks")
        scales = tensors.get(f"{whole}_scales")
        if whole != name and scales is not None:
            found[whole] = Packed(values, scales, make, device)
        elif not (name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in tensors):
            found[name] = values
    return found


def from_mxfp4(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[experts, out, groups, 16] bytes of two values and [experts, out, groups] exponents -> [experts, in, out]."""
    experts, rows, groups, half = blocks.shape
    width = groups * half * 2
    values = torch.tensor(_FP4_VALUES, dtype=torch.float32, device=blocks.device)
    found = torch.empty((experts, width, rows), dtype=dtype, device=blocks.device)
    step = max(1, _PORTION_VALUES // width)
    for expert in range(experts):
        for start in range(0, rows, step):
            part = blocks[expert, start : start + step]
            pairs = torch.stack((part & 0x0F, part >> 4), dim=-1).flatten(-2)
            exponents = scales[expert, start : start + step].float() - _EXPONENT_BIAS
            dense = values[pairs.int()].mul_(exponents.exp2_()[..., None])
            found[expert, :, start : start + step] = dense.flatten(-2).t()
    return found


def from_fp8(
    values: torch.Tensor, scales: torch.Tensor, block: tuple[int, int] | None, dtype: torch.dtype
) -> torch.Tensor:
    """[..., out, in] in 8 bit times one scale for the tensor, or one for each block [..., out / rows, in / columns]."""
    factors = (scales.float() - _EXPONENT_BIAS).exp2() if scales.dtype == torch.uint8 else scales.float()
    found = torch.empty(values.shape, dtype=dtype, device=values.device)
    flat = values.reshape(-1, *values.shape[-2:])
    grids = factors.reshape(-1, 1, 1) if factors.dim() < 2 else factors.reshape(-1, *factors.shape[-2:])
    if len(grids) not in (1, len(flat)):
        raise ValueError(f"{len(grids)} grids of scales belong to {len(flat)} matrices")
    rows, columns = (
        _side(size, count, given)
        for size, count, given in zip(flat.shape[1:], grids.shape[1:], block or (0, 0), strict=True)
    )
    step = max(1, _PORTION_VALUES // (rows * flat.shape[2])) * rows
    for at, matrix in enumerate(flat):
        wide = grids[at % len(grids)].repeat_interleave(columns, dim=1)[:, : flat.shape[2]]
        for start in range(0, flat.shape[1], step):
            part = matrix[start : start + step].float()
            over = wide[start // rows : (start + step) // rows].repeat_interleave(rows, dim=0)
            found.reshape(flat.shape)[at, start : start + step] = part.mul_(over[: len(part)])
    return found


def _side(size: int, count: int, given: int) -> int:
    """Rows or columns that share a scale, `count` times in `size`."""
    if given and -(-size // given) == count:
        return given
    if size % count:
        raise ValueError(f"{count} scales do not divide {size} rows or columns")
    return size // count
