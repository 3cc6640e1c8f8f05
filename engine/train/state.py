"""What a checkpoint holds, as safetensors and JSON: weights, optimizer, schedule, random numbers.

No pickle: loading a checkpoint never runs code.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

WEIGHTS, OPTIMIZER, RANDOM = "trainable.safetensors", "optimizer.safetensors", "random.safetensors"
OPTIMIZER_JSON, RANDOM_JSON, SCHEDULER_JSON, SCALER_JSON = (
    "optimizer.json",
    "random.json",
    "scheduler.json",
    "scaler.json",
)


def save_trainable(model: torch.nn.Module, folder: Path) -> None:
    """Every parameter that learns, under its own name."""
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.named_parameters() if value.requires_grad
    }
    save_file(tensors, folder / WEIGHTS)


@torch.no_grad()
def load_trainable(model: torch.nn.Module, folder: Path, name: str = WEIGHTS) -> None:
    """Put saved parameters back. Raises ValueError when names or shapes differ from the model's."""
    saved = load_file(folder / name)
    present = {key: value for key, value in model.named_parameters() if value.requires_grad}
    different = sorted(set(saved).symmetric_difference(present))
    if different:
        raise ValueError(f"the checkpoint trains other parameters than this run, for example {different[0]}")
    for key, value in present.items():
        if saved[key].shape != value.shape:
            raise ValueError(f"{key} has shape {tuple(saved[key].shape)} there, {tuple(value.shape)} here")
        value.copy_(saved[key])


def save_optimizer(optimizer: Any, folder: Path) -> None:
    """Tensors of the optimizer's state as safetensors; scalars, groups and structure as JSON."""
    tensors: dict[str, torch.Tensor] = {}
    structure = _flatten(optimizer.state_dict(), "state", tensors)
    save_file(tensors, folder / OPTIMIZER)
    (folder / OPTIMIZER_JSON).write_text(json.dumps(structure))


def load_optimizer(optimizer: Any, folder: Path) -> None:
    """Restore what `save_optimizer` wrote."""
    tensors = load_file(folder / OPTIMIZER)
    optimizer.load_state_dict(_restore(json.loads((folder / OPTIMIZER_JSON).read_text()), tensors))


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` with each tensor replaced by `{"tensor": name}` and each dict by its items, keys typed."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        items = [[key, _flatten(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        items = [_flatten(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    return {"value": value}


def _restore(node: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    kind, content = next(iter(node.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _restore(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_restore(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content


def save_random(folder: Path) -> None:
    """States of Python's, numpy's, torch's and CUDA's generators."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {"numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    save_file(tensors, folder / RANDOM)
    plain = {"python": random.getstate(), "numpy": [str(name), int(position), int(has_gauss), float(cached)]}
    (folder / RANDOM_JSON).write_text(json.dumps(plain))


def load_random(folder: Path) -> None:
    """Restore what `save_random` wrote."""
    tensors = load_file(folder / RANDOM)
    plain = json.loads((folder / RANDOM_JSON).read_text())
    version, internal, gauss = plain["python"]
    random.setstate((version, tuple(internal), gauss))
    name, position, has_gauss, cached = plain["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every trained parameter is finite: a checkpoint must never hold a NaN."""
    checks = [value.detach().isfinite().all() for value in model.parameters() if value.requires_grad]
    return bool(torch.stack(checks).all()) if checks else True
