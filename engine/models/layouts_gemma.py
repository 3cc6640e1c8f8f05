"""Layers of Gemma 3n and Gemma 4: wider heads in global layers, shared keys and values, per-layer embeddings.

Keys are those of transformers' configuration classes and of published files; defaults are theirs. Not here: Gemma to
Gemma 3, whose layers are alike.
"""

from __future__ import annotations

from typing import Any

from engine.models.layers import LayerGroup, Layout, grouped
from engine.models.layouts import biases, experts, experts_per_token, gated
from engine.models.numbers import Numbers

_HEAD_DIM, _GLOBAL_HEAD_DIM = 256, 512


def gemma4(numbers: Numbers) -> Layout:
    """Gemma 4; where the configuration says so with experts beside the dense part and per-layer embeddings."""
    hidden, layers, narrow = numbers.whole("hidden_size"), numbers.layers, numbers.whole("intermediate_size")
    kinds = [*numbers.kinds("layer_types", layers, _kinds(layers, 6))[:-1], "full_attention"]
    first_shared = layers - numbers.count("num_kv_shared_layers")
    double = numbers.flag("use_double_wide_mlp")
    sparse, found, widest = numbers.flag("enable_moe_block"), [], 0
    for place, kind in enumerate(kinds):
        reuses = place >= first_shared
        head_dim, key_heads = _heads(numbers, place, kind)
        widest = max(widest, head_dim)
        no_value = kind == "full_attention" and numbers.flag("attention_k_eq_v")
        linear = _attention(numbers, head_dim, key_heads, keys=not reuses, values=not (reuses or no_value))
        linear += gated(hidden, narrow * (2 if double and reuses else 1))
        bias = biases(linear, "q_proj", "k_proj", "v_proj", "o_proj") if numbers.flag("attention_bias") else 0
        # The last one scales the layer's output, as a buffer: it is no parameter.
        small = 4 * hidden + head_dim * (1 if reuses else 2) + bias
        layer = LayerGroup(1, linear, small=small, biases=bias)
        layer = _with_inputs(numbers, layer)
        found.append(_with_experts(numbers, layer) if sparse else layer)
    inner = numbers.whole("moe_intermediate_size") if sparse else max(_inner(group) for group in found)
    return Layout(
        grouped(found),
        other_parameters=_per_layer(numbers, layers),
        intermediate_size=inner,
        shared_intermediate_size=narrow if sparse else 0,
        head_dim=widest,
        num_experts=numbers.experts if sparse else 0,
        num_experts_per_token=experts_per_token(numbers) if sparse else 0,
    )


def gemma3n(numbers: Numbers) -> Layout:
    """Gemma 3n: several streams, a low-rank path beside attention, one feed-forward width a layer."""
    hidden, layers = numbers.whole("hidden_size"), numbers.layers
    widths, rank = numbers.wholes("intermediate_size", layers), numbers.count("laurel_rank", 64)
    streams, first_shared = numbers.count("altup_num_inputs", 4), layers - numbers.count("num_kv_shared_layers", 15)
    head_dim, key_heads = numbers.optional("head_dim") or _HEAD_DIM, numbers.whole("num_key_value_heads")
    paths = (
        ("correction_coefs", streams, streams),
        ("prediction_coefs", streams, streams * streams),
        ("modality_router", hidden, streams),
        ("linear_left", hidden, rank),
        ("linear_right", rank, hidden),
    )
    found = []
    for place, inner in enumerate(widths):
        own = place < first_shared
        linear = _attention(numbers, head_dim, key_heads, keys=own, values=own) + gated(hidden, inner) + paths
        bias = biases(linear, "q_proj", "k_proj", "v_proj", "o_proj") if numbers.flag("attention_bias") else 0
        # Norms of both parts, of the router and of the low-rank path; a scale for each feature.
        small = 7 * hidden + head_dim * (2 if own else 1) + bias
        found.append(_with_inputs(numbers, LayerGroup(1, linear, small=small, biases=bias)))
    between = 2 * (streams - 1) * hidden * hidden
    return Layout(
        grouped(found), _per_layer(numbers, layers) + between, intermediate_size=max(widths), head_dim=head_dim
    )


def _kinds(layers: int, pattern: int) -> list[str]:
    return ["full_attention" if (place + 1) % pattern == 0 else "sliding_attention" for place in range(layers)]


def _heads(numbers: Numbers, place: int, kind: str) -> tuple[int, int]:
    """Features of a head, and key heads, of one layer."""
    head_dim, key_heads = numbers.optional("head_dim") or _HEAD_DIM, numbers.whole("num_key_value_heads")
    own = _own(numbers.text.get("per_layer_config"), place)
    if own is not None:
        layer = Numbers(own, numbers.where)
        return layer.optional("head_dim") or head_dim, layer.optional("num_key_value_heads") or key_heads
    if kind != "full_attention" or "per_layer_config" in numbers.text:
        return head_dim, key_heads
    gated_by = numbers.flag("attention_k_eq_v", numbers.text.get("model_type") != "gemma4_text")
    global_heads = numbers.optional("num_global_key_value_heads") if gated_by else None
    return numbers.optional("global_head_dim") or _GLOBAL_HEAD_DIM, global_heads or key_heads


def _own(config: Any, place: int) -> dict[str, Any] | None:
    if not isinstance(config, dict):
        return None
    found = next((config[key] for key in (place, str(place), f"{place:02d}", f"{place:03d}") if key in config), None)
    return found if isinstance(found, dict) else None


def _attention(
    numbers: Numbers, head_dim: int, key_heads: int, *, keys: bool, values: bool
) -> tuple[tuple[str, int, int], ...]:
    hidden, query, key = numbers.whole("hidden_size"), numbers.whole("num_attention_heads") * head_dim, 0
    key = key_heads * head_dim
    found = [("q_proj", hidden, query)]
    found += [("k_proj", hidden, key)] if keys else []
    found += [("v_proj", hidden, key)] if values else []
    return (*found, ("o_proj", query, hidden))


def _inner(layer: LayerGroup) -> int:
    return next(n_in for name, n_in, _ in layer.linear if name == "down_proj")


def _with_inputs(numbers: Numbers, layer: LayerGroup) -> LayerGroup:
    """The gate and projection of what the per-layer embedding adds, and their norm."""
    hidden, width = numbers.whole("hidden_size"), _input_width(numbers)
    if not width:
        return layer
    more = (("per_layer_input_gate", hidden, width), ("per_layer_projection", width, hidden))
    return layer._replace(linear=(*layer.linear, *more), small=layer.small + hidden)


def _input_width(numbers: Numbers) -> int:
    unified = numbers.text.get("model_type") == "gemma4_unified_text"
    return 0 if unified else numbers.count("hidden_size_per_layer_input", 256)


def _per_layer(numbers: Numbers, layers: int) -> int:
    """The embedding of all layers, what projects the token's own one, and its norm."""
    width = _input_width(numbers)
    rows = numbers.count("vocab_size_per_layer_input", 262_144) if width else 0
    return layers * width * (rows + numbers.whole("hidden_size")) + width


def _with_experts(numbers: Numbers, layer: LayerGroup) -> LayerGroup:
    """Experts beside the dense part; their router is a linear layer with a scale for features and for experts."""
    hidden, count = numbers.whole("hidden_size"), numbers.experts
    found = experts(numbers, layer, numbers.whole("moe_intermediate_size"), per_expert=1)
    router = hidden * count
    return found._replace(
        linear=(*layer.linear, ("proj", hidden, count)),
        stacked=found.stacked - router,
        met=found.met - router,
        # Three more norms and the router's scale.
        small=found.small + 4 * hidden,
    )
