"""Every tensor of an adapter's file in its place.

transformers renames parts of some checkpoints while it loads them (`shared_experts` of Laguna to `shared_expert`), and
PEFT applies the same renaming to adapters, whose names are the model's own: such tensors find no place, and PEFT leaves
the random start there without an error. In mixtures it also takes `gate_proj`, `up_proj` and `down_proj` for the names
of experts, so that dense layers and shared experts get no adapter. Here each tensor is compared by its own name, and
put where it belongs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from engine.errors import EngineError, ExitCode


@torch.no_grad()
def put_in_place(model: Any, file: Path) -> list[str]:
    """Copy what differs from `file` into a model with that adapter; names that were put right.

    Raises EngineError(MODEL) for tensors that the model has no place for.
    """
    places, stored = _places(model), _stored(file)
    homeless = [name for name, tensor in stored.items() if not _fits(places, name, tensor)]
    if homeless:
        raise EngineError(
            f"the adapter has {len(homeless)} tensors that the model has no place for, such as {homeless[0]}",
            code=ExitCode.MODEL,
            where=str(file),
            hint="it was trained on another model or another version of it",
        )
    off = [name for name, tensor in stored.items() if not _same(places[name], tensor)]
    for name in off:
        places[name].copy_(stored[name])
    return off


def misplaced(model: Any, file: Path) -> list[str]:
    """Names of tensors of `file` that a model with that adapter has not, or has otherwise."""
    places, stored = _places(model), _stored(file)
    return [
        name for name, tensor in stored.items() if not _fits(places, name, tensor) or not _same(places[name], tensor)
    ]


@contextlib.contextmanager
def names_as_they_are() -> Iterator[None]:
    """While PEFT loads an adapter: names in its file and its configuration mean modules of the model."""
    try:
        from peft.utils import transformers_weight_conversion as conversion
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as stack:
        for name, stand_in in _STAND_INS.items():
            if hasattr(conversion, name):
                stack.enter_context(mock.patch.object(conversion, name, stand_in))
        yield


def _tensors_alone(model: Any, peft_config: Any, adapter_state_dict: Any, adapter_name: str = "default") -> Any:
    return adapter_state_dict


_STAND_INS: dict[str, Any] = {
    "convert_peft_config_for_transformers": lambda *_, **__: None,
    "convert_peft_adapter_state_dict_for_transformers": _tensors_alone,
}


def tensors_in(file: Path) -> int:
    """How many tensors an adapter's file holds."""
    return len(_stored(file))


def names_in(file: Path) -> frozenset[str]:
    """Names of an adapter's tensors, as its file has them."""
    return frozenset(_stored(file))


def _places(model: Any) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    found: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=True)
    return found


def _stored(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(file))
    except SafetensorError as error:
        raise EngineError(
            f"the adapter's file is damaged: {error}",
            code=ExitCode.MODEL,
            where=str(file),
            hint="copy or download it again",
        ) from error


def _fits(places: dict[str, torch.Tensor], name: str, tensor: torch.Tensor) -> bool:
    return name in places and places[name].shape == tensor.shape


def _same(place: torch.Tensor, tensor: torch.Tensor) -> bool:
    return torch.equal(place.cpu(), tensor.to(place.dtype))
