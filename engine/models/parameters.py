"""Parameter arithmetic of an architecture: linear layers, embeddings, norms, totals.

Pure integers from a `ModelSpec`; read by the memory and time models and by the catalogue's test.
Not here: bytes (`engine.memory`) and reading files (`config.py`, `safetensors.py`).
"""

from __future__ import annotations

from functools import lru_cache

from engine.models.spec import ModelSpec

_FOUR_NORMS = frozenset({"gemma2", "gemma3", "gemma3_text"})
_HEAD_NORMS = frozenset({"qwen3", "qwen3_moe", "gemma3", "gemma3_text"})
"""Families that normalise queries and keys per head (one weight of head_dim each)."""
_WIDE_NORMS = frozenset({"olmo2"})
"""Families that normalise queries and keys over all heads (weights of q and k width)."""
_OUTPUT_BIAS = frozenset({"llama", "granite", "mistral"})
"""Families whose `attention_bias` also covers the output projection; qwen2 has none there."""


def query_width(spec: ModelSpec) -> int:
    """Features of all query heads; differs from hidden_size where head_dim is set apart."""
    return spec.num_attention_heads * spec.head_dim


def key_width(spec: ModelSpec) -> int:
    """Features of all key (or value) heads."""
    return spec.num_key_value_heads * spec.head_dim


def norms_per_layer(spec: ModelSpec) -> int:
    """RMSNorms over the residual stream in one layer."""
    return 4 if spec.family in _FOUR_NORMS else 2


def normalises_heads(spec: ModelSpec) -> bool:
    """Whether queries and keys pass a norm of their own before attention."""
    return spec.family in _HEAD_NORMS or spec.family in _WIDE_NORMS


def normalises_whole_width(spec: ModelSpec) -> bool:
    """Whether that norm spans all heads at once instead of each on its own."""
    return spec.family in _WIDE_NORMS


def attention_shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """(in, out) of the attention projections of one layer."""
    hidden, query, key = spec.hidden_size, query_width(spec), key_width(spec)
    if spec.fused_projections:
        return {"qkv_proj": (hidden, query + 2 * key), "o_proj": (query, hidden)}
    return {"q_proj": (hidden, query), "k_proj": (hidden, key), "v_proj": (hidden, key), "o_proj": (query, hidden)}


def mlp_shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """(in, out) of one feed-forward block; of one expert where there are experts."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    if not spec.gated_mlp:
        return {"up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    if spec.fused_projections:
        return {"gate_up_proj": (hidden, 2 * inner), "down_proj": (inner, hidden)}
    return {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}


@lru_cache(maxsize=512)
def linear_shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """(in, out) of each linear layer in one block that can be quantized or carry an adapter.

    Experts are not among them: transformers 5 keeps them as one stacked parameter, which neither
    bitsandbytes nor PEFT's `all-linear` touches. Do not change the returned dict: it is cached.
    """
    return attention_shapes(spec) if spec.num_experts else {**attention_shapes(spec), **mlp_shapes(spec)}


@lru_cache(maxsize=512)
def linear_parameters(spec: ModelSpec) -> int:
    """Weights of all layers' linear layers in `linear_shapes`, without biases."""
    return spec.num_hidden_layers * sum(rows * columns for rows, columns in linear_shapes(spec).values())


@lru_cache(maxsize=512)
def expert_parameters(spec: ModelSpec) -> int:
    """Weights of all experts and routers; 0 for a dense model."""
    if not spec.num_experts:
        return 0
    one = sum(rows * columns for rows, columns in mlp_shapes(spec).values())
    return spec.num_hidden_layers * (spec.num_experts * one + spec.num_experts * spec.hidden_size)


def embedding_parameters(spec: ModelSpec) -> int:
    """Input embedding and output head: one matrix when tied."""
    return spec.vocab_size * spec.hidden_size * (1 if spec.tie_word_embeddings else 2)


def small_parameters(spec: ModelSpec) -> int:
    """Norm weights and biases."""
    query, key = query_width(spec), key_width(spec)
    layer = norms_per_layer(spec) * spec.hidden_size
    if spec.family in _HEAD_NORMS:
        layer += 2 * spec.head_dim
    if spec.family in _WIDE_NORMS:
        layer += query + key
    if spec.attention_bias:
        layer += query + 2 * key + (spec.hidden_size if spec.family in _OUTPUT_BIAS else 0)
    if spec.mlp_bias:
        layer += 2 * spec.intermediate_size + spec.hidden_size
    return spec.num_hidden_layers * layer + spec.hidden_size


@lru_cache(maxsize=512)
def computed_parameters(spec: ModelSpec) -> int:
    """All parameters from the architecture's numbers alone."""
    return linear_parameters(spec) + expert_parameters(spec) + embedding_parameters(spec) + small_parameters(spec)


def total_parameters(spec: ModelSpec) -> int:
    """Parameters of the model: counted or published where known, else computed."""
    return spec.parameters or computed_parameters(spec)


@lru_cache(maxsize=512)
def active_parameters(spec: ModelSpec) -> int:
    """Weights a token is multiplied with, with the output head and without the embedding lookup."""
    experts = 0
    if spec.num_experts:
        one = sum(rows * columns for rows, columns in mlp_shapes(spec).values())
        experts = spec.num_hidden_layers * (spec.num_experts_per_token * one + spec.num_experts * spec.hidden_size)
    return linear_parameters(spec) + experts + spec.vocab_size * spec.hidden_size
