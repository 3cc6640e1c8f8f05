"""Decoder layers through torch.compile, one graph for all of them, held against the plain layers first.

Attention over packed documents stays as it is: its shapes change from batch to batch, and the kernels it calls are
compiled already. Called by `assembly.py` where the profile asks for it.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.modeling import attention, forward
from engine.train.selfcheck import TOLERANCE
from engine.worker_job import Warn

_GRADIENT_SHARE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Largest difference of the whole gradient as a share of its norm."""


def compile_layers(model: Any, batch: forward.Batch, loss: Any, warn: Warn) -> bool:
    """Compile the layers of `model`; False, with a warning, where that fails or gives another loss or gradient.

    `loss(model, batch)` is the summed loss that will be trained. Takes from seconds to a minute.
    """
    layers = forward.base_of(model).get_decoder().layers
    model.eval()
    plain = _loss_and_gradients(model, batch, loss)
    _leave_attention_out()
    for layer in layers:
        layer.compile()
    try:
        found = _loss_and_gradients(model, batch, loss)
    except Exception as error:
        _undo(layers)
        first = (str(error).splitlines() or [""])[0][:200]
        warn("compile_fallback", f"the layers are not compiled: {type(error).__name__}: {first}")
        return False
    wrong = _difference(plain, found)
    if wrong:
        _undo(layers)
        warn("compile_fallback", f"the layers are not compiled: {wrong}")
        return False
    return True


def _leave_attention_out() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.packed_attention))


def _undo(layers: Any) -> None:
    for layer in layers:
        layer._compiled_call_impl = None


def _loss_and_gradients(model: Any, batch: forward.Batch, loss: Any) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    value = loss(model, batch)
    value.backward()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    return value.item(), gradients


def _difference(plain: tuple[float, list[torch.Tensor]], found: tuple[float, list[torch.Tensor]]) -> str:
    """What differs by more than rounding; empty where nothing does."""
    dtype = plain[1][0].dtype
    if not abs(plain[0] - found[0]) <= TOLERANCE[dtype] * max(abs(plain[0]), 1.0):
        return f"their loss is {found[0]:.4f}, that of the plain ones {plain[0]:.4f}"
    apart = torch.stack([(one - other).float().norm() for one, other in zip(plain[1], found[1], strict=True)]).norm()
    whole = torch.stack([one.float().norm() for one in plain[1]]).norm()
    if not float(apart) <= _GRADIENT_SHARE[dtype] * float(whole):
        return f"their gradient is off by {float(apart / whole):.1%}"
    return ""
