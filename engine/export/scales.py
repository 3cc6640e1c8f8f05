"""Fixed scales of activations for int8-static: measured on texts, kept beside the weights, put onto a loaded model.

torchao (0.18) can compute with such scales but neither measures them nor, through transformers, stores them. Called by
`quantized.py` and `reload.py`; the card gives strangers the same few lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SCALES_FILE = "activation_scales.safetensors"
LARGEST = 127


@torch.inference_mode()
def measure(model: Any, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Scale by name of every linear layer that the texts reach, the head left out: largest magnitude / 127.

    As many dimensions as the layer's input has, each of one entry: what torchao expects.
    """
    found: dict[str, torch.Tensor] = {}
    head = model.get_output_embeddings()

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            here = inputs[0].abs().amax().float().reshape((1,) * inputs[0].ndim) / LARGEST
            found[name] = torch.maximum(found[name], here) if name in found else here

        return hook

    hooks = [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    try:
        for row in rows:
            model(input_ids=torch.tensor([list(row)], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    # A layer that saw nothing but zeros would divide by its scale.
    return {name: scale.clamp_min(1e-8).clone() for name, scale in found.items()}


def put_on(model: Any, scales: dict[str, torch.Tensor]) -> None:
    """Make the quantized layers of `model` use `scales` instead of measuring each input."""
    for name, scale in scales.items():
        model.get_submodule(name).weight.act_quant_scale = scale


def save(scales: dict[str, torch.Tensor], folder: Path) -> None:
    """Write `scales` beside the model's weights."""
    from safetensors.torch import save_file

    save_file(scales, folder / SCALES_FILE, metadata={"format": "pt"})


def put_on_from(model: Any, folder: Path) -> None:
    """`put_on` with the scales in `folder`, if there are any."""
    from safetensors.torch import load_file

    if (folder / SCALES_FILE).is_file():
        put_on(model, load_file(folder / SCALES_FILE))
