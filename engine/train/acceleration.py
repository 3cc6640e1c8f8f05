"""Taking a faster path only where it computes what the plain one does.

Before and after, single layers are run on the same input (`layer_check.py`), and the loss of a small batch is formed
with all its gradients; what fails or differs by more than rounding is undone with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from engine.modeling import forward
from engine.runs.job import Warn
from engine.train import layer_check
from engine.train.selfcheck import TOLERANCE

_GRADIENT_SHARE = 1e-3
"""Largest difference of the whole gradient in fp32, as a share of its norm."""
_NORM_RATIO = 3.0
"""In 16 bits rounding adds up with depth, so that only the size of the whole gradient can be compared."""
_STIRRED_STD = 0.02


@dataclass(frozen=True, slots=True)
class Acceleration:
    """`apply(model)` switches it on, `undo(model)` off again. `name` as in "the layers are not compiled"."""

    name: str
    code: str
    apply: Callable[[Any], object]
    undo: Callable[[Any], None]
    key: str = ""
    """One word for records and events."""
    title: str = ""
    """As in "Liger, fused adapters"."""


def take(found: Acceleration, model: Any, batch: forward.Batch, loss: Any, warn: Warn) -> bool:
    """Switch it on where it is right; else False, with a warning. `loss(model, batch)` is the summed loss to train.

    The model trains as it will, with layers that are computed again, but for what is drawn at random.
    """
    layers = layer_check.chosen_layers(model)
    with _steady(model), _stirred(model):
        with layer_check.recording(layers):
            plain = loss_and_gradients(model, batch, loss)
        outcomes = [layer_check.outcome(each) for each in layers]
        found.apply(model)
        try:
            wrong = _layers_differ(layers, outcomes) or difference(plain, loss_and_gradients(model, batch, loss))
        except Exception as error:
            wrong = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    if wrong:
        found.undo(model)
        warn(found.code, f"{found.name}: {wrong}")
    return not wrong


def _layers_differ(layers: list[layer_check.Recorded], plain: list[layer_check.Outcome]) -> str:
    for each, before in zip(layers, plain, strict=True):
        wrong = layer_check.difference(each.number, before, layer_check.outcome(each))
        if wrong:
            return wrong
    return ""


@contextmanager
def _steady(model: Any) -> Iterator[None]:
    """In training mode without dropout, and without noise on embeddings; in evaluation mode afterwards."""
    model.train()
    for module in model.modules():
        if isinstance(module, (torch.nn.Dropout, torch.nn.Embedding)):
            module.eval()
    try:
        yield
    finally:
        model.eval()


@contextmanager
def _stirred(model: Any) -> Iterator[None]:
    """Fresh adapters are zero, which would hide most of their gradients: small values for the time of the check."""
    zeros = [each for name, each in model.named_parameters() if "lora_B" in name and not bool(each.any())]
    with torch.no_grad():
        for weight in zeros:
            weight.normal_(std=_STIRRED_STD)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight in zeros:
                weight.zero_()


def loss_and_gradients(model: Any, batch: forward.Batch, loss: Any) -> tuple[float, list[torch.Tensor]]:
    """The summed loss of a batch, and the gradient of each weight that gets one."""
    model.zero_grad(set_to_none=True)
    value = loss(model, batch)
    value.backward()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    return value.item(), gradients


def difference(plain: tuple[float, list[torch.Tensor]], found: tuple[float, list[torch.Tensor]]) -> str:
    """What differs by more than rounding in the whole model; empty where nothing does."""
    dtype = plain[1][0].dtype
    if not abs(plain[0] - found[0]) <= TOLERANCE[dtype] * max(abs(plain[0]), 1.0):
        return f"the loss is {found[0]:.4f} in place of {plain[0]:.4f}"
    before, after = (float(_norm(gradients)) for gradients in (plain[1], found[1]))
    if dtype != torch.float32:
        alike = before <= _NORM_RATIO * after and after <= _NORM_RATIO * before
        return "" if alike else f"the gradient's norm is {after:.4g} in place of {before:.4g}"
    apart = float(_norm([one - other for one, other in zip(plain[1], found[1], strict=True)]))
    return "" if apart <= _GRADIENT_SHARE * before else f"the gradient is off by {apart / before:.1%}"


def _norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([each.float().norm() for each in gradients]).norm()
