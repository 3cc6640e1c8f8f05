"""What a row of the families' table holds: how an architecture differs from a Llama block. Torch-free.

Not here: the rows (`families.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.models.gguf_names import Gguf
from engine.models.layers import Layout
from engine.models.numbers import Numbers

ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention"})
"""Kinds of layers that the trainer and the memory model know."""


@dataclass(frozen=True, slots=True)
class LigerKernels:
    """How liger-kernel's Triton kernels are called for a family's norms, rotation and gate."""

    casting: Literal["llama", "gemma"] = "llama"
    """`llama`: the weight multiplies the 16-bit result; `gemma`: the fp32 one."""
    offset: float = 0.0
    """Added to a norm's weight: 1 in the Gemma line."""
    norms_in_place: bool = True
    """Whether the norms of a layer feed projections only, so that their input's gradient may overwrite their output's.

    False where a norm's output goes straight into a sum with the residual stream: that buffer is shared.
    """
    rotary: bool = True
    """Half-split rotation of query and key at once."""
    rotary_rounds: bool = False
    """Whether cosine and sine come in fp32 and the rotated query in its own type (OLMo)."""
    gate: Literal["silu", "gelu_tanh", ""] = "silu"
    """Activation of the gated feed-forward part that has a kernel; empty where none fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture: what in it differs from a Llama block, and what the engine can do with it."""

    name: str
    """transformers' `model_type`, of the text model in a checkpoint that also sees or hears."""
    also: tuple[str, ...] = ()
    """Other names of the same text model: wrappers around it, llama.cpp's name."""
    layout: Callable[[Numbers], Layout] | None = None
    """Counts the layers where not all are alike; None = all follow from the columns below."""
    reads: frozenset[str] = frozenset()
    """Keys that change the arithmetic and that the row takes into account; `name_*` stands for all that begin so."""
    mixes_experts: bool = False
    """Whether there may be experts."""
    fp32_shares: frozenset[str] = frozenset()
    """Compute dtypes in which the router gives experts' shares in fp32, so that their outputs are weighted in it."""
    shared_expert_last: bool = False
    """Whether the expert that every token meets runs after the others, so that its backward pass comes first."""
    activation: str = ""
    """An activation that is not one of the usual ones and that the row counts."""
    misread: frozenset[str] = frozenset()
    """Linear layers without adapters under `all-linear`: PEFT, loading them, takes the names for those of experts."""
    packs_with: tuple[str, ...] = ()
    """Distributions whose GPU kernels keep packed documents apart; without them it trains one document a row."""
    refused: str = ""
    """Why it cannot be trained; empty where it can."""
    checked: bool = False
    """Whether the arithmetic was held against published parameter counts."""
    layer_kinds: frozenset[str] = ATTENTION_LAYERS
    """Entries of `layer_types` that can be trained."""
    alternating_windows: bool = False
    """Whether layers with a sliding window and layers without take turns."""
    gated_mlp: bool = True
    fourfold_mlp: bool = False
    """Whether the feed-forward part is four times as wide as the hidden size unless its width is named."""
    fused_projections: bool = False
    """Whether query, key and value are one matrix, and gate and up another."""
    fused_gate: bool = False
    """Whether gate and up are one matrix, query, key and value being apart."""
    attention_bias: bool = False
    """Whether query, key and value have biases where the configuration does not say."""
    output_bias: bool = False
    """Whether `attention_bias` also covers the output projection."""
    reads_attention_bias: bool = True
    """Whether the configuration's `attention_bias` counts."""
    reads_mlp_bias: bool = False
    """Whether the configuration's `mlp_bias` counts."""
    tied_by_default: bool = False
    """Whether embedding and output head are one matrix where the configuration does not say."""
    norms_per_layer: Literal[1, 2, 4] = 2
    """Norms over the residual stream."""
    biased_norms: bool = False
    """Whether norms have a bias beside their weight."""
    bare_norms: bool = False
    """Whether norms have neither weight nor bias."""
    centers_norms: bool = False
    """Whether a norm takes the mean away in plain fp32 operators (Cohere)."""
    biased_head: bool = False
    """Whether the output head has a bias."""
    single_weights: int = 0
    """Trained numbers of a layer that belong to no matrix, norm or bias: parameters of an activation."""
    query_key_norm: Literal["", "head", "width"] = ""
    """Norms of queries and keys: none, one over each head (a weight of head_dim), or one over all heads at once."""
    optional_head_norms: bool = False
    """Whether the configuration decides if there is one over each head."""
    heads_first: bool = False
    """Whether rotation puts queries together anew, heads first in memory: the rotated part of each, and the rest."""
    norm_product_fp32: bool = False
    """Whether a norm multiplies by its weight in fp32; else in the activations' dtype."""
    norm_after_mlp: bool = False
    """Whether the output of the feed-forward part passes a norm before it joins the residual stream."""
    rotary_kinds: Literal[1, 2] = 1
    """Pairs of cosine and sine: two where windowed layers turn at another rate."""
    scales_stream: bool = False
    """Whether embeddings and the output of each part are multiplied before they join the residual stream (Granite)."""
    clamps_gate: bool = False
    """Whether experts clamp gate and up before their product, one operator after the other (gpt-oss)."""
    gates_attention: bool = False
    """Whether attention's output is multiplied by a gate that the query's projection also gives."""
    soft_caps: bool = False
    """Whether attention scores pass a soft cap."""
    caps_logits: bool = False
    """Whether logits pass one where the configuration does not say."""
    latent: bool = False
    """Whether keys and values of all heads come out of one narrow vector."""
    overflows_fp16: bool = False
    """Whether activations leave the range of fp16."""
    kernels: LigerKernels | None = None
    gguf: Gguf | None = None
    """As in `gguf_names.py`; None = no GGUF file is written."""
