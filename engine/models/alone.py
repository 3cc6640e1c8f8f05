"""Models whose documents cannot share a row, because a layer passes tokens on to its neighbors: which, why, and at what
price. Torch-free.

Plan, checks and the run itself ask here, so that all say the same. Not here: how such rows are made
(`engine.data.alone`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from engine.models.layers import Mixer
from engine.models.spec import ModelSpec

LONE_TOKENS = 256
"""Typical length of a document that has a row of its own: what speed is predicted for."""
CONVOLUTIONS, STATES = "short convolutions", "state-space layers"
_MOST_TAPS = 4
"""The convolution kernel takes no wider ones."""
_DISTRIBUTIONS = {"mamba_ssm": "mamba-ssm", "causal_conv1d": "causal-conv1d"}


def mixers(spec: ModelSpec) -> tuple[Mixer, ...]:
    """Each kind of convolution and state space in the model, once."""
    return tuple(dict.fromkeys(group.mixer for group in spec.layer_groups if group.mixer.convolved))


def mixing_layers(spec: ModelSpec) -> str:
    """What passes tokens on from one document of a row to the next; empty where documents can share rows."""
    found = mixers(spec)
    return "" if not found else STATES if any(each.heads for each in found) else CONVOLUTIONS


def why_alone(spec: ModelSpec) -> str:
    """Why each document has a row of its own; empty where it has not."""
    layers = mixing_layers(spec)
    return f"its {layers} would pass tokens on from one document to the next" if layers else ""


def missing_kernels(spec: ModelSpec) -> tuple[str, ...]:
    """Distributions with GPU kernels for these layers that are not in this environment."""
    found = mixers(spec)
    wanted = ["mamba_ssm"] if any(each.heads for each in found) else []
    wanted += ["causal_conv1d"] if any(0 < each.taps <= _MOST_TAPS for each in found) else []
    return tuple(_DISTRIBUTIONS[name] for name in wanted if not is_installed(name))


def kernels_note(spec: ModelSpec) -> str:
    """What the missing kernels cost and how to get them; empty where none is missing."""
    missing = missing_kernels(spec)
    if not missing:
        return ""
    are = "is" if len(missing) == 1 else "are"
    slower = "slower and with far more memory" if mixing_layers(spec) == STATES else "slower"
    return (
        f"{' and '.join(missing)} {are} not installed: {mixing_layers(spec)} run in plain PyTorch, {slower}; "
        f"pip install {' '.join(missing)}"
    )


@lru_cache(maxsize=8)
def is_installed(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
