"""Layers of families that mix attention with short convolutions or state spaces.

Keys and defaults are those of transformers' configuration classes. The output projection of a state space is neither
quantized nor adapted: its kernels read that matrix itself, past adapters and 4-bit codes, and PEFT refuses it. Not
here: linear attention and compressed keys (`layouts_hybrid.py`).
"""

from __future__ import annotations

from dataclasses import replace

from engine.models.layers import LayerGroup, Layout, Mixer
from engine.models.layouts import Linear, attention, experts, experts_per_token, gated, head_size, mixed_layout
from engine.models.numbers import Numbers, refuse


def lfm2(numbers: Numbers) -> Layout:
    """LFM2: short convolutions, every few layers attention."""
    inner = _lfm_width(numbers)
    return mixed_layout(numbers, [_lfm_layer(numbers, kind, inner, norms=2) for kind in _lfm_kinds(numbers)], inner)


def lfm2_moe(numbers: Numbers) -> Layout:
    """LFM2-MoE: the same with experts behind the first layers."""
    dense, inner = numbers.count("num_dense_layers", 2), numbers.whole("moe_intermediate_size")
    found = []
    for place, kind in enumerate(_lfm_kinds(numbers)):
        wide = numbers.whole("intermediate_size") if place < dense else 0
        layer = _lfm_layer(numbers, kind, wide, norms=2)
        found.append(layer if wide else experts(numbers, layer, inner))
    return mixed_layout(numbers, found, inner)


def lfm3(numbers: Numbers) -> Layout:
    """LFM3: windowed attention too, norms behind each part, and a gate for each head of attention."""
    inner = numbers.whole("intermediate_size")
    norms = 4 if numbers.flag("use_sandwich_norm", True) else 2
    found = [_lfm_layer(numbers, kind, inner, norms=norms) for kind in _lfm_kinds(numbers)]
    return mixed_layout(numbers, found, inner)


def _lfm_kinds(numbers: Numbers) -> list[str]:
    layers, places = numbers.layers, numbers.text.get("full_attn_idxs")
    if numbers.text.get("model_type") == "lfm3":
        turns = ("sliding_attention", "conv", "full_attention", "conv")
        return numbers.kinds("layer_types", layers, ["conv", *(turns[place % 4] for place in range(1, layers))])
    full = set(range(layers)) if places is None else numbers.listed("full_attn_idxs")
    usual = ["full_attention" if place in full else "conv" for place in range(layers)]
    return numbers.kinds("layer_types", layers, usual)


def _lfm_layer(numbers: Numbers, kind: str, inner: int, norms: int) -> LayerGroup:
    hidden = numbers.whole("hidden_size")
    wide: Linear = (("w1", hidden, inner), ("w3", hidden, inner), ("w2", inner, hidden)) if inner else ()
    if kind != "conv":
        projections, bias = _lfm_attention(numbers)
        return LayerGroup(1, (*projections, *wide), small=norms * hidden + 2 * head_size(numbers) + bias, biases=bias)
    taps = numbers.count("conv_L_cache", 7 if numbers.text.get("model_type") == "lfm3" else 3)
    bias = 4 * hidden if numbers.flag("conv_bias") else 0
    small = (norms + taps) * hidden + bias + (hidden if bias else 0)
    linear: Linear = (("in_proj", hidden, 3 * hidden), ("out_proj", hidden, hidden), *wide)
    return LayerGroup(1, linear, met=taps * hidden, small=small, biases=bias, mixer=Mixer(hidden, taps))


def _lfm_attention(numbers: Numbers) -> tuple[Linear, int]:
    """Projections of an attention layer, and how many biases they have."""
    found = attention(numbers)
    if numbers.text.get("model_type") != "lfm3":
        return tuple(("out_proj", *sides) if name == "o_proj" else (name, *sides) for name, *sides in found), 0  # type: ignore[misc]
    bias = sum(n_out for _, _, n_out in found) if numbers.flag("attention_bias") else 0
    if numbers.flag("use_attention_gate", True):
        found = (*found, ("g_proj", numbers.whole("hidden_size"), numbers.whole("num_attention_heads")))
    return found, bias


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
    width = numbers.optional("mamba_d_ssm") or numbers.count("mamba_expand", 2) * hidden
    projections = attention(numbers)
    wide = gated(hidden, inner)
    bias = _bias(numbers, projections) + _wide_bias(numbers, wide)
    layer = LayerGroup(numbers.layers, (*projections, *wide), small=2 * hidden + bias, biases=bias)
    normed = numbers.flag("mamba_rms_norm")
    return Layout((_with_states(numbers, layer, width, normed=normed),), intermediate_size=inner)


def bamba(numbers: Numbers) -> Layout:
    """Bamba: a state space or attention, and a feed-forward part."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("intermediate_size")
    full = numbers.listed("attn_layer_indices")
    found = []
    for place in range(numbers.layers):
        projections = attention(numbers) if place in full else ()
        wide = gated(hidden, inner)
        bias = _bias(numbers, projections) + _wide_bias(numbers, wide)
        layer = LayerGroup(1, (*projections, *wide), small=2 * hidden + bias, biases=bias)
        found.append(layer if projections else _with_states(numbers, layer, numbers.count("mamba_expand", 2) * hidden))
    return mixed_layout(numbers, found, inner)


def granite_hybrid(numbers: Numbers) -> Layout:
    """Granite 4: attention or a state space, then a feed-forward part that all tokens meet, with or without experts."""
    hidden, shared = numbers.whole("hidden_size"), numbers.whole("shared_intermediate_size")
    inner = numbers.whole("intermediate_size") if numbers.experts else shared
    wide: Linear = (("input_linear", hidden, 2 * shared), ("output_linear", shared, hidden))
    kinds = numbers.kinds("layer_types", numbers.layers, ["mamba"] * numbers.layers)
    found = []
    for kind in kinds:
        projections = () if kind in ("mamba", "linear_attention") else attention(numbers)
        bias = _bias(numbers, projections)
        layer = LayerGroup(1, (*projections, *wide), small=2 * hidden + bias, biases=bias)
        layer = layer if projections else _with_states(numbers, layer, numbers.count("mamba_expand", 2) * hidden)
        found.append(_also_routed(numbers, layer, inner) if numbers.experts else layer)
    layout = mixed_layout(numbers, found, inner)
    return replace(layout, shared_intermediate_size=shared if numbers.experts else 0)


def _also_routed(numbers: Numbers, layer: LayerGroup, inner: int) -> LayerGroup:
    found = experts(numbers, layer, inner)
    return found._replace(met=found.met + layer.met)


def _bias(numbers: Numbers, projections: Linear) -> int:
    return sum(n_out for _, _, n_out in projections) if numbers.flag("attention_bias") else 0


def _wide_bias(numbers: Numbers, wide: Linear) -> int:
    return sum(n_out for _, _, n_out in wide) if numbers.flag("mlp_bias") else 0


def _with_states(numbers: Numbers, layer: LayerGroup, width: int, *, normed: bool = True) -> LayerGroup:
    """`layer` with a state space of `width` features, by the keys that begin with `mamba_`."""
    heads, groups = numbers.count("mamba_n_heads", 128), numbers.count("mamba_n_groups", 1)
    states, chunk = numbers.count("mamba_d_state", 256), numbers.count("mamba_chunk_size", 256)
    mixer = Mixer(
        convolved=width + 2 * groups * states,
        taps=numbers.count("mamba_d_conv", 4),
        heads=heads,
        head_size=width // max(1, heads),
        groups=groups,
        states=states,
        chunk=chunk,
        normed=int(normed),
    )
    return _add_states(numbers, layer, mixer, biased=numbers.flag("mamba_conv_bias", True))


def _add_states(numbers: Numbers, layer: LayerGroup, mixer: Mixer, *, biased: bool) -> LayerGroup:
    biased_key = next((key for key in ("mamba_proj_bias", "projectors_bias") if numbers.flag(key)), "")
    if biased_key:
        raise refuse(f"has {biased_key}, which is not counted", numbers.where, "use a model without")
    hidden, width = numbers.whole("hidden_size"), mixer.heads * mixer.head_size
    inward = (("in_proj", hidden, width + mixer.convolved + mixer.heads),)
    plain = mixer.convolved * mixer.taps + width * hidden
    small = 3 * mixer.heads + width * mixer.normed + mixer.convolved * biased
    return layer._replace(
        linear=(*layer.linear, *inward),
        met=layer.met + plain,
        small=layer.small + plain + small,
        mixer=mixer,
    )


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
    found = [_nemotron_layer(numbers, kind) for kind in kinds]
    routed = any(layer.stacked for layer in found)
    layout = mixed_layout(numbers, found, numbers.count("moe_intermediate_size" if routed else "intermediate_size"))
    return replace(layout, shared_intermediate_size=_nemotron_shared(numbers) if routed else 0)


def _nemotron_layer(numbers: Numbers, kind: str) -> LayerGroup:
    hidden = numbers.whole("hidden_size")
    if kind == "linear_attention":
        heads, groups = numbers.count("mamba_num_heads", 128), numbers.count("n_groups", 8)
        size, states = numbers.count("mamba_head_dim", 64), numbers.count("ssm_state_size", 128)
        convolved, taps = heads * size + 2 * groups * states, numbers.count("conv_kernel", 4)
        mixer = Mixer(convolved, taps, heads, size, groups, states, numbers.count("chunk_size", 128), 1)
        return _add_states(numbers, LayerGroup(1, (), small=hidden), mixer, biased=numbers.flag("use_conv_bias", True))
    if kind == "full_attention":
        return LayerGroup(1, attention(numbers), small=hidden)
    if kind == "moe":
        return _nemotron_experts(numbers, hidden)
    inner = numbers.whole("intermediate_size")
    wide: Linear = (("up_proj", hidden, inner), ("down_proj", inner, hidden))
    bias = _wide_bias(numbers, wide)
    return LayerGroup(1, wide, small=hidden + bias, biases=bias)


def _nemotron_shared(numbers: Numbers) -> int:
    return numbers.count("moe_shared_expert_intermediate_size", numbers.count("moe_intermediate_size"))


def _nemotron_experts(numbers: Numbers, hidden: int) -> LayerGroup:
    inner, count = numbers.whole("moe_intermediate_size"), numbers.experts
    shared = _nemotron_shared(numbers)
    one, router = 2 * hidden * inner, hidden * count
    linear: Linear = (("up_proj", hidden, shared), ("down_proj", shared, hidden))
    met = min(count, experts_per_token(numbers)) * one + router
    bias = _wide_bias(numbers, linear)
    return LayerGroup(1, linear, stacked=count * one + router, met=met, small=hidden + bias, biases=bias)
