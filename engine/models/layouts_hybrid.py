"""Layers of families that mix attention with linear attention, state spaces or short convolutions.

They are counted, so that a refusal can say how large the model is; none of them can be trained here. Keys and defaults
are those of transformers' configuration classes. Not here: families of attention layers alone (`layouts.py`).
"""

from __future__ import annotations

from engine.models.layers import LayerGroup, Layout, grouped
from engine.models.layouts import Linear, attention, experts, experts_per_token, gated, head_size
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
        return _layout(numbers, found, numbers.whole("intermediate_size"))
    shared = numbers.whole("shared_expert_intermediate_size")
    return _layout(numbers, found, numbers.whole("moe_intermediate_size"), shared)


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


def short_convolutions(numbers: Numbers) -> Layout:
    """LFM2: short convolutions, every few layers attention."""
    hidden, layers, inner = numbers.whole("hidden_size"), numbers.layers, _lfm_width(numbers)
    wide: Linear = (("w1", hidden, inner), ("w3", hidden, inner), ("w2", inner, hidden))
    projections = tuple(("out_proj" if name == "o_proj" else name, *sides) for name, *sides in attention(numbers))
    full = LayerGroup(1, (*projections, *wide), small=2 * hidden + 2 * head_size(numbers))  # type: ignore[arg-type]
    bias = 4 * hidden if numbers.flag("conv_bias") else 0
    taps = hidden * numbers.count("conv_L_cache", 3)
    linear = (("in_proj", hidden, 3 * hidden), ("out_proj", hidden, hidden), *wide)
    small = 2 * hidden + bias + (hidden if bias else 0)
    conv = LayerGroup(1, linear, stacked=taps, met=taps, small=small, biases=bias)
    kinds = numbers.kinds("layer_types", layers, ["full_attention"] * layers)
    return _layout(numbers, [full if kind == "full_attention" else conv for kind in kinds], inner)


def _lfm_width(numbers: Numbers) -> int:
    inner = numbers.optional("block_ff_dim") or numbers.whole("intermediate_size")
    if not numbers.flag("block_auto_adjust_ff_dim", True):
        return inner
    factor, multiple = numbers.text.get("block_ffn_dim_multiplier", 1.0), numbers.count("block_multiple_of", 256)
    inner = int((float(factor) if isinstance(factor, int | float) else 1.0) * int(2 * inner / 3))
    return -(-inner // multiple) * multiple if multiple else inner


def falcon_h1(numbers: Numbers) -> Layout:
    """Falcon-H1: each layer has attention and a state space side by side."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("intermediate_size")
    states, taps = numbers.count("mamba_n_groups", 1) * numbers.count("mamba_d_state", 256), 4
    width = numbers.optional("mamba_d_ssm") or numbers.count("mamba_expand", 2) * hidden
    heads, mixed = numbers.count("mamba_n_heads", 128), width + 2 * states
    linear = (*attention(numbers), *gated(hidden, inner), ("in_proj", hidden, width + mixed + heads))
    taps = numbers.count("mamba_d_conv", 4) * mixed
    small = 2 * hidden + 3 * heads + (mixed if numbers.flag("mamba_conv_bias", True) else 0)
    small += width if numbers.flag("mamba_rms_norm") else 0
    layer = LayerGroup(numbers.layers, (*linear, ("out_proj", width, hidden)), stacked=taps, met=taps, small=small)
    return Layout((layer,), intermediate_size=inner)


_LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
_MAMBA_NAMES = {"mamba": "linear_attention", "attention": "full_attention"}


def nemotron_h(numbers: Numbers) -> Layout:
    """Nemotron-H and Nemotron 3: each layer is a state space, attention, a feed-forward part or experts."""
    pattern = numbers.text.get("hybrid_override_pattern")
    named = numbers.text.get("layers_block_type")
    if isinstance(named, list):
        kinds = [_MAMBA_NAMES.get(str(kind), str(kind)) for kind in named]
    else:
        kinds = [_LETTERS.get(letter, letter) for letter in str(pattern or "*")]
    return _layout(numbers, [_nemotron_layer(numbers, kind) for kind in kinds], numbers.count("intermediate_size"))


def _nemotron_layer(numbers: Numbers, kind: str) -> LayerGroup:
    hidden = numbers.whole("hidden_size")
    if kind == "linear_attention":
        heads, states = numbers.count("mamba_num_heads", 128), numbers.count("n_groups", 8)
        width = heads * numbers.count("mamba_head_dim", 64)
        mixed = width + 2 * states * numbers.count("ssm_state_size", 128)
        linear = (("in_proj", hidden, width + mixed + heads), ("out_proj", width, hidden))
        taps = mixed * numbers.count("conv_kernel", 4)
        small = hidden + 3 * heads + width + (mixed if numbers.flag("use_conv_bias", True) else 0)
        return LayerGroup(1, linear, stacked=taps, met=taps, small=small)
    if kind == "full_attention":
        return LayerGroup(1, attention(numbers), small=hidden)
    if kind == "moe":
        return _nemotron_experts(numbers, hidden)
    inner = numbers.whole("intermediate_size")
    return LayerGroup(1, (("up_proj", hidden, inner), ("down_proj", inner, hidden)), small=hidden)


def _nemotron_experts(numbers: Numbers, hidden: int) -> LayerGroup:
    inner, count = numbers.whole("moe_intermediate_size"), numbers.experts
    shared = numbers.count("moe_shared_expert_intermediate_size", inner) * numbers.count("n_shared_experts", 1)
    one, router = 2 * hidden * inner, hidden * count
    linear = (("up_proj", hidden, shared), ("down_proj", shared, hidden))
    met = min(count, experts_per_token(numbers)) * one + router
    return LayerGroup(1, linear, stacked=count * one + router, met=met, small=hidden)


def _layout(numbers: Numbers, layers: list[LayerGroup], inner: int, shared: int = 0) -> Layout:
    count = numbers.experts
    return Layout(
        grouped(layers),
        intermediate_size=inner,
        shared_intermediate_size=shared,
        num_experts=count,
        num_experts_per_token=experts_per_token(numbers) if count else 0,
    )
