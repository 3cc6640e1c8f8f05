"""State-space layers: which of their matrices must stay plain.

Their kernels are given the output projection's own weight and multiply with it themselves: an adapter on it would be
passed by, and 4-bit codes would be taken for numbers. PyTorch's way round the kernels would take both, but the same run
must give the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

OUTPUT = "out_proj"


def read_by_kernels(model: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """(name, module) of the output projection of each state space."""
    for name, module in model.named_modules():
        if all(hasattr(module, part) for part in ("A_log", "D", "conv1d", OUTPUT)):
            yield f"{name}.{OUTPUT}", getattr(module, OUTPUT)


def kept_plain(config: Any) -> list[str]:
    """Ends of the names of linear layers that are not quantized, with the output head; none without state spaces."""
    text = config.get_text_config()
    has_states = any(hasattr(text, name) for name in ("mamba_n_heads", "mamba_num_heads"))
    return [OUTPUT, "lm_head"] if has_states else []
