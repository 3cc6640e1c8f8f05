"""Decoder layers through torch.compile, one graph for all of them.

Attention over packed documents stays as it is: its shapes change from batch to batch, and the kernels it calls are
compiled already. So does the loss: traced by torch 2.11, an autograd function of its kind gave the right loss and no
gradient. `acceleration.py` compares loss and gradients with those of the plain layers.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.modeling import attention
from engine.modeling.adapters import base_of
from engine.train.acceleration import Acceleration


def _compile(model: Any) -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.packed_attention))
    for layer in base_of(model).get_decoder().layers:
        layer.compile()


def _undo(model: Any) -> None:
    attention.register()
    for layer in base_of(model).get_decoder().layers:
        layer._compiled_call_impl = None


COMPILED = Acceleration(
    "the layers are not compiled", "compile_fallback", _compile, _undo, key="compiled", title="compiled layers"
)
