"""Whether a model's documents may share a row in a run, by its family and the kernels that are installed. Torch-free.

Attention is kept apart by the engine's own kernels. Linear attention carries a state from token to token: only
libraries' GPU kernels start it anew at a border, those of flash-linear-attention, and the short convolution before it
needs causal-conv1d's. Without them each document has a row of its own. Not here: the check that no document sees
another, which has the last word in a run (`engine.train.leaks`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from engine.models.families import Family

MODULES = {"flash-linear-attention": "fla", "causal-conv1d": "causal_conv1d"}
"""What a distribution is imported as."""


def alone_reason(family: Family, device: str) -> str:
    """Why each document has a row of its own on `device` (`cuda` or `cpu`); empty where documents share rows."""
    needed = family.packs_with
    if not needed:
        return ""
    if device != "cuda":
        return f"its linear attention keeps packed documents apart on GPUs alone, with {' and '.join(needed)}"
    missing = [name for name in needed if not _is_installed(MODULES[name])]
    if not missing:
        return ""
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} not installed, which would keep packed documents apart in linear attention"


def remedy(family: Family, device: str) -> str:
    """What lets documents share rows."""
    return f"pip install {' '.join(family.packs_with)}" if device == "cuda" else "train on a GPU"


@lru_cache(maxsize=8)
def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
