"""Which operators a run takes for norms, rotation, gate and loss: Triton's where they are installed and fit, or plain.

Called by `candidates.py` before anything is searched, and by `engine.resolve.cross` for what was asked. Nothing is
imported to find out. Not here: how the kernels are bound (`engine.modeling.liger`), what they keep (`engine.memory`).
"""

from __future__ import annotations

from functools import lru_cache

from engine.hardware.machine import Gpu
from engine.models.spec import ModelSpec

LIGER, PLAIN = "liger", "plain"
INSTALL = "pip install 'tunedeck[kernels]'"
_OLDEST = (8, 0)
"""Triton supports cards from Ampere on."""
_GAIN = "Triton kernels read each tensor once, and keep less for the backward pass"


@lru_cache(maxsize=1)
def is_installed() -> bool:
    """Whether liger-kernel and the Triton it needs are in this environment, without importing them."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("liger_kernel", "triton"))


def obstacle(spec: ModelSpec, device: str, gpu: Gpu | None) -> str:
    """Why Triton kernels cannot be used for `spec` on `device`; empty where they can."""
    if device != "cuda":
        return "Triton kernels need an NVIDIA GPU"
    if gpu is not None and gpu.compute_capability is not None and gpu.compute_capability < _OLDEST:
        return "Triton kernels need a card of compute capability 8.0 or newer"
    if spec.traits.kernels is None:
        return f"no Triton kernels are known for '{spec.family}' models"
    if not is_installed():
        return f"liger-kernel is not installed: {INSTALL}"
    from engine.libraries import optional_misfit  # of use on a machine with a GPU alone

    return optional_misfit("liger-kernel") or optional_misfit("triton")


def choose_kernels(spec: ModelSpec, device: str, gpu: Gpu | None, asked: str | None) -> tuple[str, str]:
    """`liger` or `plain`, and why; `asked` is what a person set."""
    if asked == PLAIN:
        return PLAIN, "asked for"
    against = obstacle(spec, device, gpu)
    if not against:
        return LIGER, _GAIN if asked is None else f"asked for; {_GAIN}"
    return PLAIN, against if asked is None else f"liger was asked for and is not possible: {against}"
