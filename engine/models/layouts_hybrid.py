"""Layers of families that mix attention with linear attention.

Keys and defaults are those of transformers' configuration classes. Not here: families of attention layers alone
(`layouts.py`), those with short convolutions and state spaces (`layouts_states.py`).
"""

from __future__ import annotations

from engine.models.layers import LayerGroup, Layout
from engine.models.layouts import Linear, attention, experts, gated, head_size, mixed_layout
from engine.models.numbers import Numbers

_DELTA = {"num_key_heads": 16, "num_value_heads": 32, "key_head_dim": 128, "value_head_dim": 128}
"""Keys of a gated delta rule behind `linear_`, with transformers' defaults."""


def qwen_linear(numbers: Numbers) -> Layout:
    """Qwen3.5 and Qwen3-Next: three layers of gated linear attention to one of gated attention."""
    hidden, layers = numbers.whole("hidden_size"), numbers.layers
    kinds = numbers.kinds("layer_types", layers, _every(layers, numbers.count("full_attention_interval", 4) or 4))
    wide, heads = numbers.whole("num_attention_heads") * head_size(numbers), 2 * head_size(numbers)
    plain = tuple((name, n_in, n_out + wide * (name == "q_proj")) for name, n_in, n_out in attention(numbers))
    linear, kept, small = _delta_rule(numbers)
    bias = sum(n_out for _, _, n_out in plain) if numbers.flag("attention_bias") else 0
    full = LayerGroup(1, plain, small=2 * hidden + heads + bias, biases=bias)
    heads_and_sizes = tuple(numbers.count(f"linear_{key}", usual) for key, usual in _DELTA.items())
    other = LayerGroup(1, linear, stacked=kept, met=kept, small=2 * hidden + small, delta=heads_and_sizes)
    found = [_feed_forward(numbers, full if kind == "full_attention" else other) for kind in kinds]
    if not numbers.experts:
        return mixed_layout(numbers, found, numbers.whole("intermediate_size"))
    shared = numbers.whole("shared_expert_intermediate_size")
    return mixed_layout(numbers, found, numbers.whole("moe_intermediate_size"), shared)


def _every(layers: int, step: int) -> list[str]:
    return ["linear_attention" if (place + 1) % step else "full_attention" for place in range(layers)]


def _delta_rule(numbers: Numbers) -> tuple[Linear, int, int]:
    """Projections of a linear attention layer, its convolution, and its small weights."""
    hidden, values = numbers.whole("hidden_size"), numbers.count("linear_num_value_heads", 32)
    key = numbers.count("linear_num_key_heads", 16) * numbers.count("linear_key_head_dim", 128)
    size = numbers.count("linear_value_head_dim", 128)
    value, mixed = values * size, 2 * key + values * size
    joined: Linear = (("in_proj_qkvz", hidden, mixed + value), ("in_proj_ba", hidden, 2 * values))
    apart: Linear = (
        ("in_proj_qkv", hidden, mixed),
        ("in_proj_z", hidden, value),
        ("in_proj_b", hidden, values),
        ("in_proj_a", hidden, values),
    )
    projections = joined if numbers.text.get("model_type") == "qwen3_next" else apart
    return (
        (*projections, ("out_proj", value, hidden)),
        mixed * numbers.count("linear_conv_kernel_dim", 4),
        (2 * values + size),
    )


def _feed_forward(numbers: Numbers, layer: LayerGroup) -> LayerGroup:
    hidden = numbers.whole("hidden_size")
    if not numbers.experts:
        return layer._replace(linear=(*layer.linear, *gated(hidden, numbers.whole("intermediate_size"))))
    shared = numbers.whole("shared_expert_intermediate_size")
    linear = (*layer.linear, *gated(hidden, shared), ("shared_expert_gate", hidden, 1))
    found = experts(numbers, layer, numbers.whole("moe_intermediate_size"))
    return found._replace(linear=linear, stacked=found.stacked + layer.stacked, met=found.met + layer.met)
