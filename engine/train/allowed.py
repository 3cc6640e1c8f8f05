"""The faster paths that a run may take, by its settings, its model and its machine.

What a person set is fixed; what was left open is free, and `kernel_choice.py` may leave it out where it is slower.
Not here: whether a path computes what the plain one does (`acceleration.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engine.modeling import fused_lora, liger
from engine.modeling.adapters import base_of
from engine.models.families import family_of
from engine.profile.schema import Profile
from engine.runs.job import Warn
from engine.train.acceleration import Acceleration
from engine.train.compiled import COMPILED

FUSED = Acceleration(
    "adapters go PEFT's own way",
    "fused_fallback",
    fused_lora.fuse,
    fused_lora.unfuse,
    key="fused",
    title="fused adapters",
)
LIGER = Acceleration(
    "norms, rotation, gate and loss go transformers' own way",
    "kernels_fallback",
    liger.bind,
    liger.unbind,
    key="liger",
    title="Liger",
)
_OLDEST = (8, 0)
"""Compute capability from which on Triton supports a card."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A path that may be taken; `fixed`: it is not left out for being slower."""

    path: Acceleration
    fixed: bool


def allowed(settings: Profile, given: frozenset[str], model: Any, warn: Warn) -> list[Allowed]:
    """The paths for `model`, leanest in memory first. `given`: keys whose value is a person's own."""
    found = (_liger(settings, given, model, warn), _fused(settings, given, model), _compiled(settings))
    return [each for each in found if each is not None]


def may_compile(settings: Profile, given: frozenset[str], model: Any) -> bool:
    """Whether compiled layers may be tried unasked: on a GPU, for a family that has no kernels."""
    unasked = not settings.train.torch_compile and "train.torch_compile" not in given
    return unasked and settings.launch.device == "cuda" and not _has_kernels(model)


def _liger(settings: Profile, given: frozenset[str], model: Any, warn: Warn) -> Allowed | None:
    asked, on_gpu = settings.train.kernels, settings.launch.device == "cuda"
    own = "train.kernels" in given and asked != "auto"
    if (own and asked == "plain") or not (on_gpu or (own and asked == "liger")):
        return None
    if not _has_kernels(model):
        if own:
            warn(LIGER.code, f"{LIGER.name}: no kernels are known for this family of models")
        return None
    reason = liger.missing_reason()
    if reason:
        if not on_gpu or torch.cuda.get_device_capability() >= _OLDEST:
            warn("kernels_missing", f"{LIGER.name}: {reason}")
        return None
    # A plan that says `plain` has its reason, such as a card that Triton does not know.
    return None if asked == "plain" else Allowed(LIGER, fixed=own)


def _has_kernels(model: Any) -> bool:
    return family_of(base_of(model).config.get_text_config().model_type).kernels is not None


def _fused(settings: Profile, given: frozenset[str], model: Any) -> Allowed | None:
    if settings.lora.fused is False or not fused_lora.adapted_layers(model):
        return None
    own = "lora.fused" in given and settings.lora.fused is True
    return Allowed(FUSED, fixed=own or settings.launch.device != "cuda")


def _compiled(settings: Profile) -> Allowed | None:
    return Allowed(COMPILED, fixed=True) if settings.train.torch_compile else None
