"""Layers of families that are all alike and whose parts have biases or names of their own.

Each function is named in a row of `families.py` and reads the keys of transformers' configuration class. Not here:
mixtures of experts (`layouts.py`).
"""

from __future__ import annotations

from engine.models.layers import LayerGroup, Layout
from engine.models.layouts import Linear, attention, biases, gated
from engine.models.numbers import Numbers


def stablelm(numbers: Numbers) -> Layout:
    """StableLM: norms have biases, and query, key and value may."""
    hidden = numbers.whole("hidden_size")
    linear = (*attention(numbers), *gated(hidden, numbers.whole("intermediate_size")))
    bias = biases(linear, "q_proj", "k_proj", "v_proj") if numbers.flag("use_qkv_bias") else 0
    return _alike(numbers, linear, norms=2, bias=bias)


def starcoder2(numbers: Numbers) -> Layout:
    """StarCoder2: a feed-forward part without a gate, under names of its own; norms and linear layers have biases."""
    linear = (*attention(numbers), *_two_layers(numbers, "c_fc", "c_proj"))
    bias = sum(n_out for _, _, n_out in linear) if numbers.flag("use_bias", True) else 0
    return _alike(numbers, linear, norms=2, bias=bias)


def phi(numbers: Numbers) -> Layout:
    """Phi-1 to Phi-2: one norm feeds attention and the feed-forward part, and all layers have biases, the head too."""
    *projections, (_, n_in, n_out) = attention(numbers)
    linear = (*projections, ("dense", n_in, n_out), *_two_layers(numbers, "fc1", "fc2"))
    bias = sum(n_out for _, _, n_out in linear)
    return _alike(numbers, linear, norms=1, bias=bias, head=numbers.whole("vocab_size"))


def _two_layers(numbers: Numbers, up: str, down: str) -> Linear:
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("intermediate_size")
    return ((up, hidden, inner), (down, inner, hidden))


def _alike(numbers: Numbers, linear: Linear, *, norms: int, bias: int, head: int = 0) -> Layout:
    """All layers from the parts of one; each norm, the last one too, has a bias. `head`: biases of the output head."""
    hidden = numbers.whole("hidden_size")
    layer = LayerGroup(numbers.layers, linear, small=2 * norms * hidden + bias, biases=bias)
    return Layout((layer,), other_parameters=hidden + head)
