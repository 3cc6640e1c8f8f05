"""Taking a faster path only where it computes what the plain one does.

Loss and gradients of a small batch are formed before and after; what fails or differs by more than rounding is undone
with a warning. Called by `assembly.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from engine.modeling import forward
from engine.train.selfcheck import TOLERANCE
from engine.worker_job import Warn

_GRADIENT_SHARE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Largest difference of the whole gradient as a share of its norm."""
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
    with _steady(model), _stirred(model):
        plain = loss_and_gradients(model, batch, loss)
        found.apply(model)
        try:
            wrong = difference(plain, loss_and_gradients(model, batch, loss))
        except Exception as error:
            wrong = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    if wrong:
        found.undo(model)
        warn(found.code, f"{found.name}: {wrong}")
    return not wrong


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
    """What differs by more than rounding; empty where nothing does."""
    dtype = plain[1][0].dtype
    if not abs(plain[0] - found[0]) <= TOLERANCE[dtype] * max(abs(plain[0]), 1.0):
        return f"the loss is {found[0]:.4f} in place of {plain[0]:.4f}"
    apart = torch.stack([(one - other).float().norm() for one, other in zip(plain[1], found[1], strict=True)]).norm()
    whole = torch.stack([one.float().norm() for one in plain[1]]).norm()
    if not float(apart) <= _GRADIENT_SHARE[dtype] * float(whole):
        return f"the gradient is off by {float(apart / whole):.1%}"
    return ""
