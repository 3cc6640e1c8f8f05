"""What the decoder layers of a model make of a batch, by place, so that two batches can be compared bit by bit.

Without experts these are the outputs of the layers. An expert's product takes as many rows as tokens are sent to it,
and with another number of rows a kernel may round another way: a token's neighbors change its bits without any leak.
So in a model with experts each layer is asked alone: the documents that are watched get the inputs of the earlier pass
again, and the parts of the layer that come before its experts are compared, attention and other mixers among them.
What experts could mix is left to the gradients, which are exactly zero where nothing is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch


def has_experts(module: torch.nn.Module) -> bool:
    """Whether tokens are sent to experts anywhere in `module`."""
    return any(name.rpartition(".")[2] == "experts" or "Experts" in type(part).__name__
               for name, part in module.named_modules())  # fmt: skip


def layers_of(decoder: Any) -> list[torch.nn.Module]:
    """The layers of a decoder; none where they are not in a list."""
    layers = getattr(decoder, "layers", None)
    return list(layers) if isinstance(layers, torch.nn.ModuleList) else []


class Watcher:
    """Notes the states of one forward pass of `decoder`."""

    def __init__(self, decoder: Any) -> None:
        self._layers = layers_of(decoder)
        self.outputs: dict[int, type] = {}
        """What layers returned that return hidden states alone, as a tensor or as the one item of a tuple."""
        self._routed = has_experts(decoder)
        self._states: dict[str, torch.Tensor] = {}
        self._passed_experts: set[int] = set()
        self._given: Mapping[str, torch.Tensor] = {}
        self._parts: Sequence[slice] = ()

    def force(self, states: Mapping[str, torch.Tensor], parts: Sequence[slice]) -> None:
        """Give each layer the inputs in `states`, of an earlier pass, for these parts of the flattened tokens."""
        if self._routed:
            self._given, self._parts = states, parts

    def found(self, last: torch.Tensor) -> dict[str, torch.Tensor]:
        """States by place in the order of the pass, each [tokens, width]; with the last one where no experts are."""
        return self._states if self._routed else {**self._states, "the last hidden state": _flat(last)}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what comes while this lasts; a layer that is computed again later is not noted again."""
        handles = [handle for number, layer in enumerate(self._layers) for handle in self._hooks(number, layer)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, number: int, layer: torch.nn.Module) -> list[Any]:
        handles: list[Any] = [layer.register_forward_hook(self._returning(number))]
        if not self._routed:
            return [*handles, layer.register_forward_hook(self._noting(f"layer {number}"))]
        handles.append(layer.register_forward_pre_hook(self._before(number), with_kwargs=True))
        for name, child in layer.named_children():
            if has_experts(child):
                handles.append(child.register_forward_pre_hook(lambda *_: self._passed_experts.add(number)))
            else:
                handles.append(child.register_forward_hook(self._noting(f"{name} of layer {number}", number)))
        return handles

    def _noting(self, place: str, number: int = -1) -> Any:
        def note(_: Any, __: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            if isinstance(states, torch.Tensor) and states.dim() >= 2 and number not in self._passed_experts:
                self._states.setdefault(place, _flat(states))

        return note

    def _returning(self, number: int) -> Any:
        def note(_: Any, __: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) or (isinstance(output, tuple) and len(output) == 1):
                self.outputs[number] = tuple if isinstance(output, tuple) else torch.Tensor

        return note

    def _before(self, number: int) -> Any:
        place = f"the input of layer {number}"

        def give(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
            states = arguments[0] if arguments else named["hidden_states"]
            if self._given:
                states = self._replaced(states, self._given[place])
            self._states[place] = _flat(states)
            return ((states, *arguments[1:]), named) if arguments else ((), {**named, "hidden_states": states})

        return give

    def _replaced(self, states: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        flat = states.flatten(0, -2).clone()
        for part in self._parts:
            flat[part] = given[part]
        return flat.reshape(states.shape)


def _flat(states: torch.Tensor) -> torch.Tensor:
    return states.detach().flatten(0, -2).clone()
