"""A language model as numbers: what the memory and time models need to know of an architecture.

Read by `engine.memory`, `engine.speed` and `engine.recommend`. Not here: finding a model
(`resolve.py`), the shipped list (`catalog.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Architecture numbers of a decoder-only transformer, with the facts a person chooses by."""

    name: str
    """Hub id, `demo`, or the path that was given."""
    family: str
    """transformers' `model_type`: llama, qwen2, qwen3, mistral, gemma2, phi3 …"""
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    gated_mlp: bool = True
    fused_projections: bool = False
    """True where qkv and gate_up are single matrices (phi3)."""
    sliding_window: int | None = None
    num_experts: int = 0
    num_experts_per_token: int = 0
    weights_dtype: str = "bfloat16"
    """dtype of the published weights; what the files hold."""
    parameters: int | None = None
    """Published or counted from the files; `None` = computed from the numbers above."""
    licence: str = ""
    gated: bool = False
    use_cases: tuple[str, ...] = ()
    quality: int = 0
    """Relative capability, 0 to 100, used only to order recommendations. 0 = not known."""
    source: str = "catalogue"
    """`catalogue`, `directory`, `gguf`, `cache` or `built-in`."""
    path: str | None = None
    """Where its files are on this machine, when they are."""
