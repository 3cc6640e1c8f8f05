"""Layers of families that mix attention with linear attention, or compress keys.

They are counted, so that a refusal can say how large the model is; none of them can be trained here. Keys and defaults
are those of transformers' configuration classes. Not here: families of attention layers alone (`layouts.py`), those
with short convolutions and state spaces (`layouts_states.py`).
"""

from __future__ import annotations

from engine.models.layers import LayerGroup, Layout, grouped
from engine.models.layouts import Linear, attention, experts, experts_per_token, gated, head_size
from engine.models.numbers import Numbers


def qwen_linear(numbers: Numbers) -> Layout:
    """Qwen3.5 and Qwen3-Next: three layers of gated linear attention to one of gated attention."""
    hidden, layers = numbers.whole("hidden_size"), numbers.layers
    kinds = numbers.kinds("layer_types", layers, _every(layers, numbers.count("full_attention_interval", 4) or 4))
    wide, heads = numbers.whole("num_attention_heads") * head_size(numbers), 2 * head_size(numbers)
    plain = tuple((name, n_in, n_out + wide * (name == "q_proj")) for name, n_in, n_out in attention(numbers))
    linear, kept, small = _delta_rule(numbers)
    full = LayerGroup(1, plain, small=2 * hidden + heads)
    other = LayerGroup(1, linear, stacked=kept, met=kept, small=2 * hidden + small)
    found = [_feed_forward(numbers, full if kind == "full_attention" else other) for kind in kinds]
    inner = numbers.whole("moe_intermediate_size" if numbers.experts else "intermediate_size")
    return _layout(numbers, found, inner)


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


def latent(numbers: Numbers) -> Layout:
    """DeepSeek V2 and V3, GLM-4.7-Flash: keys and values from a narrow one, dense layers before those with experts."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("moe_intermediate_size")
    projections, norms = _latent_attention(numbers, hidden)
    plain = LayerGroup(1, (*projections, *gated(hidden, numbers.whole("intermediate_size"))), small=2 * hidden + norms)
    shared = inner * numbers.count("n_shared_experts", 1)
    sparse = experts(numbers, plain._replace(linear=(*projections, *gated(hidden, shared))), inner)
    first = {"deepseek_v2": 0, "deepseek_v3": 3}.get(str(numbers.text.get("model_type")), 1)
    dense = numbers.count("first_k_dense_replace", first)
    kinds = numbers.kinds(
        "mlp_layer_types", numbers.layers, ["dense" if place < dense else "sparse" for place in range(numbers.layers)]
    )
    return _layout(numbers, [plain if kind == "dense" else sparse for kind in kinds], inner)


def _latent_attention(numbers: Numbers, hidden: int) -> tuple[Linear, int]:
    heads, rank = numbers.whole("num_attention_heads"), numbers.whole("kv_lora_rank")
    rotated, plain = numbers.whole("qk_rope_head_dim"), numbers.whole("qk_nope_head_dim")
    value, of_query = numbers.whole("v_head_dim"), numbers.optional("q_lora_rank")
    query = heads * (plain + rotated)
    first: Linear = (("q_proj", hidden, query),)
    if of_query:
        first = (("q_a_proj", hidden, of_query), ("q_b_proj", of_query, query))
    others: Linear = (
        ("kv_a_proj_with_mqa", hidden, rank + rotated),
        ("kv_b_proj", rank, heads * (plain + value)),
        ("o_proj", heads * value, hidden),
    )
    return (*first, *others), rank + (of_query or 0)


def _layout(numbers: Numbers, layers: list[LayerGroup], inner: int) -> Layout:
    count = numbers.experts
    return Layout(
        grouped(layers),
        intermediate_size=inner,
        num_experts=count,
        num_experts_per_token=experts_per_token(numbers) if count else 0,
    )
