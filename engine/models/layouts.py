"""Layers of families in which not all are alike, from their configuration: experts and Gemma's later models.

Each function is named in a row of `families.py` and reads the keys of transformers' configuration class. The tests hold
what it counts against transformers' own model. Not here: families of equal layers, which `spec.py` counts from a row.
"""

from __future__ import annotations

from engine.models.layers import LayerGroup, Layout, grouped
from engine.models.numbers import Numbers

Linear = tuple[tuple[str, int, int], ...]


def attention(numbers: Numbers, heads: int = 0) -> Linear:
    """Query, key, value and output projections of a layer; `heads` where layers differ in them."""
    hidden, query_heads = numbers.whole("hidden_size"), heads or numbers.whole("num_attention_heads")
    head_dim = head_size(numbers)
    key = (numbers.optional("num_key_value_heads") or numbers.whole("num_attention_heads")) * head_dim
    query = query_heads * head_dim
    return (("q_proj", hidden, query), ("k_proj", hidden, key), ("v_proj", hidden, key), ("o_proj", query, hidden))


def head_size(numbers: Numbers) -> int:
    """Features of one head."""
    hidden, heads = numbers.whole("hidden_size"), numbers.whole("num_attention_heads")
    return numbers.optional("head_dim") or max(1, hidden // heads)


def gated(hidden: int, inner: int) -> Linear:
    """A gated feed-forward part."""
    return (("gate_proj", hidden, inner), ("up_proj", hidden, inner), ("down_proj", inner, hidden))


def biases(linear: Linear, *names: str) -> int:
    """Biases of the layers of these names: one an output."""
    return sum(n_out for name, _, n_out in linear if name in names)


def experts(numbers: Numbers, layer: LayerGroup, inner: int, per_expert: int = 0) -> LayerGroup:
    """`layer` with gated experts and their router; `per_expert`: small weights beside each."""
    hidden, count = numbers.whole("hidden_size"), numbers.experts
    active = min(count, experts_per_token(numbers))
    one, router = 3 * hidden * inner, hidden * count
    return layer._replace(
        stacked=count * one + router, met=active * one + router, small=layer.small + count * per_expert
    )


def experts_per_token(numbers: Numbers) -> int:
    """Experts that a token meets."""
    return numbers.optional("num_experts_per_tok") or numbers.optional("top_k_experts") or 1


def shared_expert(numbers: Numbers) -> Layout:
    """Qwen2-MoE and Qwen3-MoE: experts in every n-th layer, with Qwen2 one that all tokens meet and its gate."""
    hidden, layers, inner = numbers.whole("hidden_size"), numbers.layers, numbers.whole("moe_intermediate_size")
    shared = numbers.count("shared_expert_intermediate_size")
    step, dense = max(1, numbers.count("decoder_sparse_step", 1)), numbers.listed("mlp_only_layers")
    projections = attention(numbers)
    if numbers.text.get("model_type") == "qwen2_moe":
        bias = biases(projections, "q_proj", "k_proj", "v_proj") if numbers.flag("qkv_bias", True) else 0
        norms = 2 * hidden
    else:
        bias = sum(n_out for _, _, n_out in projections) if numbers.flag("attention_bias") else 0
        norms = 2 * hidden + 2 * head_size(numbers)
    plain = LayerGroup(
        1, (*projections, *gated(hidden, numbers.whole("intermediate_size"))), small=norms + bias, biases=bias
    )
    beside = (*gated(hidden, shared), ("shared_expert_gate", hidden, 1)) if shared else ()
    sparse = experts(numbers, plain._replace(linear=(*projections, *beside)), inner)
    kinds = [plain if place in dense or (place + 1) % step else sparse for place in range(layers)]
    return _sparse(numbers, kinds, inner, shared)


def dense_first(numbers: Numbers) -> Layout:
    """GLM-4.5: the first layers are dense, the others have experts and a shared one."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("moe_intermediate_size")
    projections, shared = attention(numbers), inner * numbers.count("n_shared_experts", 1)
    bias = biases(projections, "q_proj", "k_proj", "v_proj") if numbers.flag("attention_bias") else 0
    norms = 2 * hidden + (2 * head_size(numbers) if numbers.flag("use_qk_norm") else 0)
    plain = LayerGroup(
        1, (*projections, *gated(hidden, numbers.whole("intermediate_size"))), small=norms + bias, biases=bias
    )
    sparse = experts(numbers, plain._replace(linear=(*projections, *gated(hidden, shared))), inner)
    dense = numbers.count("first_k_dense_replace", 1)
    return _sparse(numbers, [plain if place < dense else sparse for place in range(numbers.layers)], inner, shared)


def laguna(numbers: Numbers) -> Layout:
    """Laguna: dense first layer, gated attention with as many heads as each layer says, a shared expert."""
    hidden, inner, layers = numbers.whole("hidden_size"), numbers.whole("moe_intermediate_size"), numbers.layers
    shared, head_dim = numbers.whole("shared_expert_intermediate_size"), head_size(numbers)
    many = numbers.text.get("num_attention_heads_per_layer") is not None
    heads = numbers.wholes("num_attention_heads_per_layer" if many else "num_attention_heads", layers)
    kinds = numbers.kinds("mlp_layer_types", layers, ["dense"] + ["sparse"] * (layers - 1))
    found = []
    for count, kind in zip(heads, kinds, strict=True):
        projections = attention(numbers, count)
        if gating := numbers.text.get("gating", True):
            gate = count if gating in (True, "per-head") else count * head_dim
            projections = (*projections, ("g_proj", hidden, gate))
        bias = biases(projections, "q_proj", "k_proj", "v_proj", "o_proj") if numbers.flag("attention_bias") else 0
        small = 2 * hidden + 2 * head_dim + bias
        wide = gated(hidden, shared if kind == "sparse" else numbers.whole("intermediate_size"))
        layer = LayerGroup(1, (*projections, *wide), small=small, biases=bias)
        # Each expert has a correction of its score.
        found.append(experts(numbers, layer, inner, per_expert=1) if kind == "sparse" else layer)
    return _sparse(numbers, found, inner, shared)


def gpt_oss(numbers: Numbers) -> Layout:
    """gpt-oss: biases everywhere, experts' too, and a sink for each head."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("intermediate_size")
    projections = attention(numbers)
    bias = sum(n_out for _, _, n_out in projections) if numbers.flag("attention_bias", True) else 0
    small = 2 * hidden + bias + numbers.whole("num_attention_heads")
    layer = LayerGroup(numbers.layers, projections, small=small, biases=bias)
    found = experts(numbers, layer, inner, per_expert=1 + 2 * inner + hidden)
    return _sparse(numbers, [found], inner, 0)


def llama4(numbers: Numbers) -> Layout:
    """Llama 4: experts with a shared one in every n-th layer, the others dense and wider."""
    hidden, inner, layers = numbers.whole("hidden_size"), numbers.whole("intermediate_size"), numbers.layers
    projections, step = attention(numbers), max(1, numbers.count("interleave_moe_layer_step", 1))
    bias = sum(n_out for _, _, n_out in projections) if numbers.flag("attention_bias") else 0
    wide = gated(hidden, numbers.count("intermediate_size_mlp", 16_384))
    plain = LayerGroup(1, (*projections, *wide), small=2 * hidden + bias, biases=bias)
    beside = (*gated(hidden, inner), ("router", hidden, numbers.experts))
    sparse = _router_apart(numbers, experts(numbers, plain._replace(linear=(*projections, *beside)), inner))
    named = numbers.text.get("moe_layers") is not None
    places = numbers.listed("moe_layers") if named else set(range(step - 1, layers, step))
    return _sparse(numbers, [sparse if place in places else plain for place in range(layers)], inner, inner)


def routed(numbers: Numbers) -> Layout:
    """Phi-3.5-MoE: the router is a linear layer, norms and the last one have biases."""
    hidden, inner, count = numbers.whole("hidden_size"), numbers.whole("intermediate_size"), numbers.experts
    projections = attention(numbers)
    bias = sum(n_out for _, _, n_out in projections) if numbers.flag("attention_bias") else 0
    linear = (*projections, ("router", hidden, count))
    layer = LayerGroup(numbers.layers, linear, small=4 * hidden + bias, biases=bias)
    found = _router_apart(numbers, experts(numbers, layer, inner))
    head = numbers.whole("vocab_size") if numbers.flag("lm_head_bias") else 0
    layout = _sparse(numbers, [found], inner, 0)
    return Layout(layout.groups, hidden + head, inner, 0, 0, layout.num_experts, layout.num_experts_per_token)


def _router_apart(numbers: Numbers, layer: LayerGroup) -> LayerGroup:
    """A layer whose router is among its linear layers, and so not with its experts."""
    router = numbers.whole("hidden_size") * numbers.experts
    return layer._replace(stacked=layer.stacked - router, met=layer.met - router)


def _sparse(numbers: Numbers, layers: list[LayerGroup], inner: int, shared: int) -> Layout:
    return Layout(
        grouped(layers),
        intermediate_size=inner,
        shared_intermediate_size=shared,
        num_experts=numbers.experts,
        num_experts_per_token=experts_per_token(numbers),
    )


def mixed_layout(numbers: Numbers, layers: list[LayerGroup], inner: int, shared: int = 0) -> Layout:
    """A model of these layers, which have experts where they have stacked weights."""
    count = numbers.experts if any(layer.stacked for layer in layers) else 0
    return Layout(
        grouped(layers),
        intermediate_size=inner,
        shared_intermediate_size=shared,
        num_experts=count,
        num_experts_per_token=experts_per_token(numbers) if count else 0,
    )
