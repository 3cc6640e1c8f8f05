"""Every tensor of an adapter's file in its place.

transformers renames parts of some checkpoints while it loads them (`shared_experts` of Laguna to `shared_expert`), and
PEFT applies the same renaming to adapters, whose names are the model's own: such tensors find no place, and PEFT leaves
the random start there without an error. Here each tensor is compared by its own name, and put where it belongs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode


@torch.no_grad()
def put_in_place(model: Any, file: Path) -> list[str]:
    """Copy what differs from `file` into a model with that adapter; names that were put right.

    Raises EngineError(MODEL) for tensors that the model has no place for.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    stored = load_file(str(file))
    places = get_peft_model_state_dict(model, save_embedding_layers=True)
    homeless = [name for name in stored if name not in places or places[name].shape != stored[name].shape]
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


def _same(place: torch.Tensor, tensor: torch.Tensor) -> bool:
    return torch.equal(place.cpu(), tensor.to(place.dtype))
