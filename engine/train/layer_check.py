"""Does a decoder layer compute what it did before? One layer at a time, so that rounding does not add up with depth.

In 16 bits two right ways of computing a whole model drift apart: the gradients of 32 layers of random weights differ by
a tenth, and those of a trained model, which nearly cancel, by more. A single layer's do not: it gets the same input and
the same random gradient of its output both times; the two differ by 1.5 % with random weights, and by 3.5 % in the key
projections of a trained model (SmolLM2-135M, 48 tokens), whose gradient is the smallest. Used by `acceleration.py`,
which also compares the whole model's loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from engine.modeling.adapters import base_of

MOST_LAYERS = 8
"""Layers that are compared: the first, the last and others evenly between, and one of each kind."""
LAYER_SHARE = {torch.float32: 1e-3, torch.bfloat16: 8e-2, torch.float16: 3e-2}
"""Largest difference of an output or a gradient, as a share of its norm."""
_SEED = 0


@dataclass(slots=True)
class Recorded:
    """A layer with what it was called with."""

    number: int
    layer: Any
    arguments: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)


Outcome = list[tuple[str, torch.Tensor]]
"""What a layer made of its input: its output, and the gradients by its input and by each of its weights that learn."""


def chosen_layers(model: Any) -> list[Recorded]:
    """The layers to compare; none for a model without a list of decoder layers."""
    layers = getattr(base_of(model).get_decoder(), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        return []
    last = len(layers) - 1
    even = {round(last * step / max(1, MOST_LAYERS - 1)) for step in range(MOST_LAYERS)}
    kinds = {_kind(layer): number for number, layer in reversed(list(enumerate(layers)))}
    return [Recorded(number, layers[number]) for number in sorted(even | set(kinds.values()))]


def _kind(layer: Any) -> str:
    """Class and attention type: families alternate between windows and whole attention."""
    return f"{type(layer).__name__} {getattr(layer, 'attention_type', '')} {getattr(layer, 'layer_type', '')}"


@contextlib.contextmanager
def recording(layers: Sequence[Recorded]) -> Iterator[None]:
    """Note what each layer is called with while this lasts."""

    def noting(recorded: Recorded) -> Callable[..., None]:
        def note(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            recorded.arguments = tuple(_detached(each) for each in arguments)
            recorded.named = {name: _detached(each) for name, each in named.items()}

        return note

    handles = [each.layer.register_forward_pre_hook(noting(each), with_kwargs=True) for each in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def outcome(recorded: Recorded) -> Outcome:
    """The layer on its recorded input, and backward from a gradient that is the same at each call."""
    inputs = [_asking(each) for each in recorded.arguments]
    output = recorded.layer(*inputs, **recorded.named)
    states = output[0] if isinstance(output, tuple) else output
    generator = torch.Generator(states.device).manual_seed(_SEED)
    above = torch.randn(states.shape, generator=generator, dtype=states.dtype, device=states.device)
    # Not `autograd.grad`, which layers that are recomputed the reentrant way do not take.
    torch.autograd.backward(states, above)
    asked = [("its input", each) for each in inputs if isinstance(each, torch.Tensor) and each.requires_grad]
    asked += [(name, each) for name, each in recorded.layer.named_parameters() if each.requires_grad]
    gradients = [(f"the gradient of {name}", each.grad) for name, each in asked if each.grad is not None]
    recorded.layer.zero_grad(set_to_none=True)
    return [("the output", states.detach()), *gradients]


def _asking(value: Any) -> Any:
    """Hidden states ask for a gradient, numbers and positions do not."""
    return value.clone().requires_grad_() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def difference(number: int, plain: Outcome, found: Outcome) -> str:
    """What differs by more than rounding in layer `number`, the most first; empty where nothing does."""
    worst, where = 0.0, ""
    for (name, one), (_, other) in zip(plain, found, strict=True):
        share, bound = _share(one, other), LAYER_SHARE.get(one.dtype, LAYER_SHARE[torch.float32])
        # Also true of a number that is none.
        if not share <= bound and not share <= worst:
            worst, where = share, name
    return f"{where} in layer {number} is off by {worst:.1%}" if where else ""


def _share(one: torch.Tensor, other: torch.Tensor) -> float:
    apart, whole = (one.float() - other.float()).norm(), one.float().norm()
    return float(apart / whole) if float(whole) else float(apart)
