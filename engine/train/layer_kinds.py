"""One layer of each kind of a model: what runs backward in the check whether documents see each other.

Layers are of one kind where they are built, set and hooked alike. The others pass on what they are given, so that each
layer keeps its place, and what a model reads by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

_PLACES = frozenset({"layer_idx", "layer_id", "layer_number", "block_idx", "index", "training"})
"""What differs from layer to layer of one kind."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def one_of_each_kind(layers: list[torch.nn.Module]) -> set[int]:
    """Numbers of the first layer of each kind."""
    found: dict[Any, int] = {}
    for number, layer in enumerate(layers):
        found.setdefault(kind_of(layer), number)
    return set(found.values())


def kind_of(module: torch.nn.Module) -> Any:
    """What two layers of one kind have in common: classes, settings, shapes and hooks, all the way down."""
    settings = tuple(
        sorted((name, _told(value)) for name, value in vars(module).items() if name[0] != "_" and name not in _PLACES)
    )
    hooks = tuple(len(getattr(module, name)) for name in _HOOKS)
    shapes = tuple(
        (name, tuple(each.shape), str(each.dtype)) for name, each in module._parameters.items() if each is not None
    )
    parts = tuple((name, kind_of(child)) for name, child in module.named_children())
    return type(module), settings, hooks, shapes, parts


def _told(value: Any) -> str:
    """A setting in words; of what has no plain value only its kind, which is the same in layers made alike."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


@contextmanager
def passing_on(layers: list[torch.nn.Module], outputs: Mapping[int, type], kept: set[int]) -> Iterator[None]:
    """Let layers outside `kept` return their input. `outputs`: what each of them returns, from an earlier pass."""
    changed: list[tuple[torch.nn.Module, Any]] = []
    try:
        for number, layer in enumerate(layers):
            kind = outputs.get(number)
            if number not in kept and kind is not None:
                changed.append((layer, vars(layer).get("forward")))
                layer.forward = _identity(kind)
        yield
    finally:
        for layer, own in changed:
            if own is None:
                del layer.__dict__["forward"]
            else:
                layer.forward = own


def _identity(kind: type) -> Any:
    def same(*arguments: Any, **named: Any) -> Any:
        states = arguments[0] if arguments else named["hidden_states"]
        return (states,) if kind is tuple else states

    return same
