"""Activation checkpointing: which decoder layers are computed again in the backward pass, and what they keep.

Layers are transformers' own `GradientCheckpointingLayer`s; each gets a function of ours that runs torch's checkpoint.
Torch stops recomputing a layer as soon as all that its backward pass needs is there, which `fused_lora` makes use of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from engine.modeling.adapters import base_of
from engine.modeling.attention_kernels import KeptOutputs, before_attentions_backward
from engine.modeling.offload import Offload, Warn

Function = Callable[..., Any]


def enable(
    model: Any,
    every: int,
    *,
    keep_last: bool = False,
    offload: bool = False,
    keep_attention: bool = False,
    reentrant: bool = False,
    warn: Warn = lambda code, message: None,
) -> None:
    """Recompute layers 0, n, 2n … of `model` in the backward pass (`every` = 0: none).

    `keep_last`: the last layer is not recomputed. `offload`: inputs wait in host memory, but for the last recomputed
    layer, whose input is needed at once. `keep_attention`: attention's outputs stay. `reentrant`: for layers that hide
    what they keep from torch's hooks (int8); they are recomputed whole.
    """
    base = base_of(model)
    if not every:
        return
    _switch_on(base)
    layers = checkpointed_layers(base)
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index % every == 0 and not (keep_last and index == len(layers) - 1)
    chosen = [layer for layer in layers if layer.gradient_checkpointing]
    storage = Offload(warn) if offload else None
    if storage is not None:
        # The last layer parks nothing, or is not recomputed: the input before it must not wait for the backward pass.
        layers[-1].register_forward_pre_hook(lambda *_: storage.settle())
    for layer in chosen:
        run = _recomputing(layer, keep_attention, reentrant)
        if storage is not None:
            run = partial(_fetching, run, storage)
            run = run if layer is chosen[-1] else partial(_parking, run, storage)
        layer._gradient_checkpointing_func = run
    if layers and not any(parameter.requires_grad for parameter in layers[0].parameters()):
        # transformers lets the embedding's output ask for a gradient: layers that are frozen would keep activations.
        base.disable_input_require_grads()


def checkpointed_layers(base: Any) -> list[Any]:
    """The layers of a transformers model's text decoder that can be recomputed, in order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in base.get_decoder().modules() if isinstance(module, GradientCheckpointingLayer)]


def _switch_on(base: Any) -> None:
    options = {"use_reentrant": False}
    if hasattr(base, "activation_checkpointing_enable"):
        base.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _recomputing(layer: Any, keep_attention: bool, reentrant: bool) -> Function:
    """What `layer` calls in place of its forward pass: (function, *inputs) -> outputs."""
    # Without dropout nothing is drawn: saving and restoring the generators would cost host time in every layer.
    random = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in layer.modules())
    run: Function = partial(checkpoint, use_reentrant=reentrant, preserve_rng_state=random)
    return partial(_keeping_attention, run) if keep_attention else run


def _keeping_attention(run: Function, function: Function, *inputs: Any) -> Any:
    kept = KeptOutputs()

    def inside(*given: Any) -> Any:
        with kept:
            return function(*given)

    return run(inside, *inputs)


def _fetching(run: Function, storage: Offload, function: Function, *inputs: Any) -> Any:
    """The input of the layer below sets out when this layer's attention goes back."""

    def inside(*given: Any) -> Any:
        with before_attentions_backward(storage.start_next):
            return function(*given)

    return run(inside, *inputs)


def _parking(run: Function, storage: Offload, function: Function, *inputs: Any) -> Any:
    """Only the checkpoint's own saved inputs pass these hooks: inside the layer it sets hooks of its own."""
    with saved_tensors_hooks(storage.park, storage.fetch):
        return run(function, *inputs)
