"""Whether a model's documents may share a row in a run, by its family and the kernels that are installed. Torch-free.

Attention is kept apart by the engine's own kernels. Linear attention carries a state from token to token: only
libraries' GPU kernels start it anew at a border, those of flash-linear-attention, and the short convolution before it
needs causal-conv1d's. Without them each document has a row of its own; so it has beside short convolutions and state
spaces (`alone.py`). Not here: the check that no document sees
another, which has the last word in a run (`engine.train.leaks`).
"""

from __future__ import annotations

from engine.models.alone import is_installed, why_alone
from engine.models.family import Family
from engine.models.spec import ModelSpec

MODULES = {"flash-linear-attention": "fla", "causal-conv1d": "causal_conv1d"}
"""What a distribution is imported as."""


def alone_reason(spec: ModelSpec, device: str) -> str:
    """Why each document has a row of its own on `device` (`cuda` or `cpu`); empty where documents share rows."""
    return why_alone(spec) or _lacking_kernels(spec.traits, device)


def _lacking_kernels(family: Family, device: str) -> str:
    needed = family.packs_with
    if not needed:
        return ""
    if device != "cuda":
        return f"its linear attention keeps packed documents apart on GPUs alone, with {' and '.join(needed)}"
    missing = [name for name in needed if not is_installed(MODULES[name])]
    if not missing:
        return ""
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} not installed, which would keep packed documents apart in linear attention"


def uses_plain_rule(family: Family, device: str) -> bool:
    """Whether transformers' own operators compute linear attention there, not the kernels of a library."""
    return bool(family.packs_with) and (device != "cuda" or not is_installed(MODULES["flash-linear-attention"]))


def remedy(spec: ModelSpec, device: str) -> str:
    """What lets documents share rows; empty where nothing does."""
    family = spec.traits
    if not family.packs_with:
        return ""
    return f"pip install {' '.join(family.packs_with)}" if device == "cuda" else "train on a GPU"
