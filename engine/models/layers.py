"""What one kind of layer holds, and the layers of a model in which not all are of one kind.

Plain whole numbers, so that a model of a person's own list keeps them in a file. Not here: how a family's layers follow
from its configuration (`layouts.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Mixer(NamedTuple):
    """What passes from token to token in a layer beside attention: a short convolution, alone or before a state space.

    All 0 = neither.
    """

    convolved: int = 0
    """Features that the convolution runs over."""
    taps: int = 0
    """Tokens that it looks at, with the newest."""
    heads: int = 0
    """Of the state space; 0 = there is none."""
    head_size: int = 0
    groups: int = 0
    states: int = 0
    """Of each feature."""
    chunk: int = 0
    """Tokens that are multiplied with each other at once."""
    normed: int = 0
    """Whether a norm follows."""


class LayerGroup(NamedTuple):
    """Layers of one kind."""

    layers: int
    linear: tuple[tuple[str, int, int], ...]
    """(name, in, out) of linear layers: what can be quantized or carry an adapter."""
    stacked: int = 0
    """Weights in no linear layer: experts with their routers."""
    met: int = 0
    """Outside of the linear layers, what a token is multiplied with."""
    small: int = 0
    """Norm weights, biases, single numbers, and matrices that are neither quantized nor adapted."""
    biases: int = 0
    """Of those, the biases of linear layers."""
    mixer: Mixer = Mixer()
    delta: tuple[int, ...] = ()
    """Of a gated delta rule: key heads, value heads, features of a key and of a value; empty elsewhere."""

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers of one such layer."""
        return sum(n_in * n_out for _, n_in, n_out in self.linear)


@dataclass(frozen=True, slots=True)
class Layout:
    """A model's layers by kind, and what its configuration means where names differ from Llama's."""

    groups: tuple[LayerGroup, ...]
    other_parameters: int = 0
    """Outside of layers, embedding, output head and the last norm's weight."""
    intermediate_size: int = 0
    """Of a dense feed-forward part or of one expert, the widest; 0 = as the configuration says."""
    shared_intermediate_size: int = 0
    """Of the expert that every token meets."""
    head_dim: int = 0
    """The widest; 0 = as the configuration says."""
    num_experts: int = 0
    num_experts_per_token: int = 0


def parameters_in(groups: tuple[LayerGroup, ...]) -> int:
    """Weights and biases of layers by kind."""
    return sum(group.layers * (group.linear_parameters + group.stacked + group.small) for group in groups)


def groups_from(lists: list[Any]) -> tuple[LayerGroup, ...]:
    """Groups as JSON and TOML hold them, those of an older engine too. Raises TypeError for other lists."""
    return tuple(_group(one) for one in lists)


def _group(one: list[Any]) -> LayerGroup:
    plain = LayerGroup(one[0], tuple(tuple(item) for item in one[1]), *one[2:6])
    mixer, delta = [*one[6:], [], []][:2]
    return plain._replace(mixer=Mixer(*mixer), delta=tuple(delta))


def grouped(layers: list[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Equal layers as one group each, in the order of their first one."""
    counts: dict[LayerGroup, int] = {}
    for layer in layers:
        one = layer._replace(layers=1)
        counts[one] = counts.get(one, 0) + layer.layers
    return tuple(layer._replace(layers=count) for layer, count in counts.items())
