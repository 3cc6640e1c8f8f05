"""Layers of families with multi-head latent attention: keys and values of all heads come out of one narrow vector.

`projections` gives the linear layers of such a layer; `latent_of` reads the widths back from them, so that memory and
time follow from a model's shapes alone. Keys and defaults are those of transformers' configuration classes. Not here:
what the layers cost (`engine.memory.latent_attention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.models.layers import LayerGroup, Layout, grouped
from engine.models.layouts import Linear, experts, experts_per_token, gated
from engine.models.numbers import Numbers

DENSE_FIRST = {"deepseek_v2": 0, "deepseek_v3": 3}
"""Dense layers before those with experts where a configuration does not say; else one."""
COMPRESSED = "kv_b_proj"
"""The linear layer that makes keys and values of all heads; no other attention has it."""


@dataclass(frozen=True, slots=True)
class Latent:
    """Widths of a layer's latent attention, in features of a token; those of heads are over all heads."""

    query_rank: int
    """Of the compressed query; 0 where the query is not compressed."""
    key_rank: int
    """Of what keys and values come from."""
    rotated: int
    """Of the rotated part of a key, which all heads share."""
    query: int
    """Of queries, and of keys once they are expanded."""
    value: int
    expanded: int
    """Of what comes out of `kv_b_proj`: the unrotated parts of keys, and values."""


def latent_of(shapes: Mapping[str, tuple[int, int]]) -> Latent | None:
    """The widths of the attention that these linear layers make; None for any other attention."""
    if COMPRESSED not in shapes:
        return None
    rank, expanded = shapes[COMPRESSED]
    query_rank, query = shapes.get("q_b_proj") or (0, shapes["q_proj"][1])
    return Latent(
        query_rank=query_rank,
        key_rank=rank,
        rotated=shapes["kv_a_proj_with_mqa"][1] - rank,
        query=query,
        value=shapes["o_proj"][0],
        expanded=expanded,
    )


def with_experts(numbers: Numbers) -> Layout:
    """DeepSeek V2 and V3, GLM-4.7-Flash: dense layers before those with experts and a shared one."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("moe_intermediate_size")
    linear, small, biases = _attention(numbers)
    wide = gated(hidden, numbers.whole("intermediate_size"))
    shared = inner * numbers.count("n_shared_experts", _shared_by_default(numbers))
    beside = gated(hidden, shared)
    plain = _layer(numbers, (*linear, *wide), small, biases)
    sparse = experts(numbers, _layer(numbers, (*linear, *beside), small, biases), inner)
    dense = numbers.count("first_k_dense_replace", DENSE_FIRST.get(str(numbers.text.get("model_type")), 1))
    kinds = numbers.kinds(
        "mlp_layer_types", numbers.layers, ["dense" if place < dense else "sparse" for place in range(numbers.layers)]
    )
    return Layout(
        grouped([plain if kind == "dense" else sparse for kind in kinds]),
        intermediate_size=inner,
        shared_intermediate_size=shared,
        head_dim=_query_width(numbers),
        num_experts=numbers.experts,
        num_experts_per_token=experts_per_token(numbers),
    )


def dense(numbers: Numbers) -> Layout:
    """MiniCPM3: every layer has a plain feed-forward part."""
    hidden, inner = numbers.whole("hidden_size"), numbers.whole("intermediate_size")
    linear, small, biases = _attention(numbers)
    layer = _layer(numbers, (*linear, *gated(hidden, inner)), small, biases)
    return Layout((layer._replace(layers=numbers.layers),), intermediate_size=inner, head_dim=_query_width(numbers))


def _shared_by_default(numbers: Numbers) -> int:
    return 2 if numbers.text.get("model_type") == "deepseek_v2" else 1


def _query_width(numbers: Numbers) -> int:
    """Features of one head of queries and keys."""
    return numbers.whole("qk_nope_head_dim") + numbers.whole("qk_rope_head_dim")


def _layer(numbers: Numbers, linear: Linear, small: int, biases: int) -> LayerGroup:
    if numbers.text.get("model_type") in _READ_MLP_BIAS and numbers.flag("mlp_bias"):
        found = sum(n_out for name, _, n_out in linear if name in ("gate_proj", "up_proj", "down_proj"))
        small, biases = small + found, biases + found
    return LayerGroup(1, linear, small=small, biases=biases)


_READ_MLP_BIAS = ("deepseek_v2", "minicpm3")


def _attention(numbers: Numbers) -> tuple[Linear, int, int]:
    """Projections of a layer, its small weights with the norms of the whole layer, and of those the biases."""
    linear = projections(numbers)
    shapes = {name: (n_in, n_out) for name, n_in, n_out in linear}
    ranks = shapes[COMPRESSED][0] + shapes.get("q_b_proj", (0, 0))[0]
    biased = ("q_a_proj", "kv_a_proj_with_mqa", "o_proj") if numbers.flag("attention_bias") else ()
    biases = sum(n_out for name, (_, n_out) in shapes.items() if name in biased)
    return linear, 2 * numbers.whole("hidden_size") + ranks + biases, biases


def projections(numbers: Numbers) -> Linear:
    """The linear layers of latent attention."""
    hidden, heads, rank = (numbers.whole(key) for key in ("hidden_size", "num_attention_heads", "kv_lora_rank"))
    rotated, plain = numbers.whole("qk_rope_head_dim"), numbers.whole("qk_nope_head_dim")
    value, of_query = numbers.optional("v_head_dim") or hidden // heads, numbers.optional("q_lora_rank")
    query = heads * (plain + rotated)
    first: Linear = (("q_proj", hidden, query),)
    if of_query:
        first = (("q_a_proj", hidden, of_query), ("q_b_proj", of_query, query))
    others: Linear = (
        ("kv_a_proj_with_mqa", hidden, rank + rotated),
        (COMPRESSED, rank, heads * (plain + value)),
        ("o_proj", heads * value, hidden),
    )
    return (*first, *others)
