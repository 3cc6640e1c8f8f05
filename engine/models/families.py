"""What the engine knows of a model family, one row an architecture. Torch-free.

`FAMILIES` is keyed by transformers' `model_type` of the text model. Reading a configuration, counting parameters, the
memory and time models, the Triton kernels and GGUF files all read the row: adding a family is adding a row. A family
without one is refused where a number would be shown. The tests hold each row against transformers' own model. Not here:
the numbers of one model (`spec.py`), families with layers of several kinds (`layouts.py`), the marks of chat templates
(`engine.data.templates`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from engine.models import layouts, layouts_gemma, layouts_hybrid, layouts_states
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


@dataclass(frozen=True, slots=True)
class Gguf:
    """How llama.cpp takes a family's weights and tokenizer."""

    architecture: str
    """llama.cpp's name."""
    rotates_neighbors: bool = False
    """Whether llama.cpp rotates neighbors, so that rows of the query and key projections change their order."""
    shifts_norms: bool = False
    """Whether 1 is added to the weights of norms."""
    knows_windows: bool = False
    """Whether llama.cpp keeps to the sliding windows of this family."""
    splitter: str = ""
    """llama.cpp's name for how text is split before merging; empty = found by the tokenizer's pattern."""


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
    activation: str = ""
    """An activation that is not one of the usual ones and that the row counts."""
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
    single_weights: int = 0
    """Trained numbers of a layer that belong to no matrix, norm or bias: parameters of an activation."""
    query_key_norm: Literal["", "head", "width"] = ""
    """Norms of queries and keys: none, one over each head (a weight of head_dim), or one over all heads at once."""
    norm_product_fp32: bool = False
    """Whether a norm multiplies by its weight in fp32; else in the activations' dtype."""
    norm_after_mlp: bool = False
    """Whether the output of the feed-forward part passes a norm before it joins the residual stream."""
    rotary_kinds: Literal[1, 2] = 1
    """Pairs of cosine and sine: two where windowed layers turn at another rate."""
    scales_stream: bool = False
    """Whether embeddings and the output of each part are multiplied before they join the residual stream (Granite)."""
    soft_caps: bool = False
    """Whether logits and attention scores pass a soft cap."""
    overflows_fp16: bool = False
    """Whether activations leave the range of fp16."""
    kernels: LigerKernels | None = None
    gguf: Gguf | None = None
    """None = no GGUF file is written."""


_PRE_NORM = LigerKernels()
_POST_NORM = LigerKernels("gemma", 1.0, norms_in_place=False, gate="gelu_tanh")
_OLMO_KERNELS = LigerKernels("gemma", norms_in_place=False, rotary_rounds=True)

_MOE_KEYS = frozenset({"shared_expert_intermediate_size", "decoder_sparse_step", "mlp_only_layers"})
_GEMMA4_KEYS = frozenset(
    {"hidden_size_per_layer_input", "vocab_size_per_layer_input", "num_kv_shared_layers", "attention_k_eq_v"}
    | {"global_head_dim", "num_global_key_value_heads", "per_layer_config", "use_double_wide_mlp", "enable_moe_block"}
)
_LLAMA = Family(
    name="llama",
    reads_mlp_bias=True,
    checked=True,
    output_bias=True,
    kernels=_PRE_NORM,
    gguf=Gguf("llama", rotates_neighbors=True),
)
_QWEN2 = Family(
    name="qwen2",
    reads_attention_bias=False,
    also=("qwen2_vl_text", "qwen2_5_vl_text"),
    checked=True,
    attention_bias=True,
    kernels=_PRE_NORM,
    gguf=Gguf("qwen2", splitter="qwen2"),
)
_QWEN3 = Family(
    name="qwen3",
    also=("qwen3_vl_text",),
    checked=True,
    query_key_norm="head",
    output_bias=True,
    kernels=_PRE_NORM,
    gguf=Gguf("qwen3", splitter="qwen2"),
)
_GEMMA = Family(name="gemma", tied_by_default=True, norm_product_fp32=True, output_bias=True, overflows_fp16=True)
_GEMMA2 = replace(_GEMMA, name="gemma2", alternating_windows=True, norms_per_layer=4, norm_after_mlp=True)
_GEMMA4 = replace(
    _GEMMA2,
    name="gemma4_text",
    also=("gemma4",),
    layout=layouts_gemma.gemma4,
    reads=_GEMMA4_KEYS,
    mixes_experts=True,
    query_key_norm="head",
    rotary_kinds=2,
    # Query and key are rotated one by one.
    kernels=LigerKernels("gemma", norms_in_place=False, rotary=False, gate="gelu_tanh"),
)
_OLMO2 = Family(
    name="olmo2",
    checked=True,
    output_bias=True,
    query_key_norm="width",
    norm_product_fp32=True,
    norm_after_mlp=True,
    kernels=_OLMO_KERNELS,
)
_MIXTRAL = Family(name="mixtral", reads_attention_bias=False, mixes_experts=True)
_LINEAR = Family(
    name="qwen3_next",
    layout=layouts_hybrid.qwen_linear,
    mixes_experts=True,
    query_key_norm="head",
    refused="packed documents would run into each other in its linear attention layers",
)
_SHORT = Family(
    name="lfm2",
    layout=layouts_states.lfm2,
    layer_kinds=ATTENTION_LAYERS | {"conv"},
    reads=frozenset({"conv_*"}),
    tied_by_default=True,
    query_key_norm="head",
)
_STATES = Family(
    name="falcon_h1",
    layout=layouts_states.falcon_h1,
    reads=frozenset({"mamba_*", "ssm_*"}),
    output_bias=True,
    reads_mlp_bias=True,
)
_LATENT = Family(
    name="deepseek_v3",
    layout=layouts_hybrid.latent,
    mixes_experts=True,
    refused="the memory of its latent attention was not worked out",
)
_OLD = "its modules have names and biases that this trainer does not know"

_ROWS = (
    _LLAMA,
    replace(_LLAMA, name="mistral", output_bias=False, reads_attention_bias=False, reads_mlp_bias=False),
    Family(name="ministral3", reads_attention_bias=False, kernels=_PRE_NORM),
    Family(name="smollm3", reads_mlp_bias=True, checked=True, output_bias=True, kernels=_PRE_NORM),
    Family(name="arcee", reads_mlp_bias=True, gated_mlp=False, output_bias=True, activation="relu2"),
    # The activation has two trained numbers.
    Family(
        name="apertus",
        gated_mlp=False,
        output_bias=True,
        query_key_norm="head",
        single_weights=2,
        activation="xielu",
    ),
    Family(name="seed_oss", reads_mlp_bias=True, attention_bias=True),
    Family(name="ernie4_5", reads_attention_bias=False, tied_by_default=True),
    Family(
        name="cohere2",
        alternating_windows=True,
        tied_by_default=True,
        norms_per_layer=1,
        output_bias=True,
    ),
    Family(name="hunyuan_v1_dense", output_bias=True, query_key_norm="head"),
    _QWEN2,
    Family(
        name="qwen2_moe",
        reads_attention_bias=False,
        layout=layouts.shared_expert,
        reads=_MOE_KEYS,
        mixes_experts=True,
        attention_bias=True,
        gguf=Gguf("qwen2moe", splitter="qwen2"),
    ),
    _QWEN3,
    # Experts have their own code.
    replace(
        _QWEN3,
        name="qwen3_moe",
        also=("qwen3_vl_moe_text",),
        layout=layouts.shared_expert,
        reads=_MOE_KEYS,
        mixes_experts=True,
        kernels=LigerKernels(gate=""),
        gguf=Gguf("qwen3moe", splitter="qwen2"),
    ),
    _GEMMA,
    replace(
        _GEMMA2,
        checked=True,
        soft_caps=True,
        kernels=_POST_NORM,
        gguf=Gguf("gemma2", shifts_norms=True, knows_windows=True),
    ),
    replace(
        _GEMMA2,
        name="gemma3_text",
        also=("gemma3",),
        checked=True,
        query_key_norm="head",
        rotary_kinds=2,
        kernels=_POST_NORM,
        gguf=Gguf("gemma3", shifts_norms=True, knows_windows=True),
    ),
    _GEMMA4,
    replace(_GEMMA4, name="gemma4_unified_text", also=("gemma4_unified",), kernels=None),
    replace(
        _GEMMA4,
        name="gemma3n_text",
        also=("gemma3n",),
        layout=layouts_gemma.gemma3n,
        reads=_GEMMA4_KEYS | {"altup_*", "laurel_rank"},
        mixes_experts=False,
        soft_caps=True,
        kernels=None,
        refused="the memory of its several streams (AltUp, LAuReL) was not worked out",
    ),
    Family(
        name="phi3",
        reads_attention_bias=False,
        checked=True,
        fused_projections=True,
        kernels=_PRE_NORM,
        gguf=Gguf("phi3", splitter="dbrx"),
    ),
    _OLMO2,
    replace(_OLMO2, name="olmo3", checked=False, alternating_windows=True, rotary_kinds=2),
    Family(name="granite", reads_mlp_bias=True, checked=True, output_bias=True, scales_stream=True, kernels=_PRE_NORM),
    Family(
        name="granitemoehybrid",
        layout=layouts_states.granite_hybrid,
        layer_kinds=ATTENTION_LAYERS | {"attention", "linear_attention", "mamba"},
        reads=frozenset({"shared_intermediate_size", "mamba_*", "layers_block_type"}),
        mixes_experts=True,
        fused_gate=True,
        output_bias=True,
        scales_stream=True,
    ),
    Family(
        name="exaone4",
        reads_attention_bias=False,
        alternating_windows=True,
        query_key_norm="head",
        norm_after_mlp=True,
        kernels=LigerKernels(norms_in_place=False),
    ),
    # Neighbors are rotated, not halves.
    Family(
        name="glm4",
        fused_gate=True,
        attention_bias=True,
        norms_per_layer=4,
        norm_after_mlp=True,
        kernels=LigerKernels(norms_in_place=False, rotary=False),
    ),
    Family(
        name="glm4_moe",
        layout=layouts.dense_first,
        reads=frozenset({"first_k_dense_replace", "n_shared_experts", "use_qk_norm"}),
        mixes_experts=True,
    ),
    Family(
        name="laguna",
        layout=layouts.laguna,
        reads=frozenset({"shared_expert_intermediate_size", "num_attention_heads_per_layer"}),
        mixes_experts=True,
        alternating_windows=True,
        query_key_norm="head",
        rotary_kinds=2,
    ),
    # Cosine and sine are half as wide as elsewhere; experts have their own code.
    Family(
        name="gpt_oss",
        layout=layouts.gpt_oss,
        mixes_experts=True,
        alternating_windows=True,
        attention_bias=True,
        output_bias=True,
        kernels=LigerKernels("gemma", rotary=False, gate=""),
        refused="packed attention has no attention sinks",
    ),
    _MIXTRAL,
    replace(_MIXTRAL, name="olmoe", reads_attention_bias=True, output_bias=True, query_key_norm="width"),
    replace(_MIXTRAL, name="minimax_m2", query_key_norm="width"),
    replace(
        _MIXTRAL,
        name="phimoe",
        reads=frozenset({"lm_head_bias"}),
        reads_attention_bias=True,
        layout=layouts.routed,
        output_bias=True,
        biased_norms=True,
    ),
    Family(
        name="nemotron", reads_mlp_bias=True, gated_mlp=False, output_bias=True, biased_norms=True, activation="relu2"
    ),
    # The attention gate lies in the same rows as the query; the linear attention layers keep their own norm.
    replace(_LINEAR, name="qwen3_5_text", also=("qwen3_5",), kernels=LigerKernels("gemma", 1.0)),
    replace(_LINEAR, name="qwen3_5_moe_text", also=("qwen3_5_moe",)),
    _LINEAR,
    _SHORT,
    replace(_SHORT, name="lfm2_moe", layout=layouts_states.lfm2_moe, mixes_experts=True),
    replace(_SHORT, name="lfm3", layout=layouts_states.lfm3, norms_per_layer=4, norm_after_mlp=True, rotary_kinds=2),
    _STATES,
    replace(_STATES, name="bamba", layout=layouts_states.bamba),
    replace(
        _STATES,
        name="nemotron_h",
        layout=layouts_states.nemotron_h,
        layer_kinds=ATTENTION_LAYERS | {"linear_attention", "mamba", "attention", "mlp", "moe"},
        reads=frozenset(
            {"mamba_*", "ssm_*", "conv_*", "hybrid_override_pattern", "layers_block_type", "n_shared_experts"}
        ),
        mixes_experts=True,
        gated_mlp=False,
        activation="relu2",
        norms_per_layer=1,
    ),
    replace(_LATENT, name="deepseek_v2"),
    _LATENT,
    replace(_LATENT, name="glm4_moe_lite"),
    *(
        Family(name=name, refused=_OLD)
        for name in ("opt", "gpt_neox", "phi", "starcoder2", "gpt2", "gptj", "gpt_neo", "falcon")
    ),
)

FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
_NAMES: dict[str, Family] = {name: row for row in _ROWS for name in (row.name, *row.also)}
_OTHER = Family(name="other")
"""For a `model_type` without a row: no kernels, no GGUF files. No number is shown that was counted by it alone."""


def known_family(model_type: str) -> Family | None:
    """The row of a `model_type`, or None."""
    return FAMILIES.get(model_type) or _NAMES.get(model_type)


def family_of(model_type: str) -> Family:
    """The row of a `model_type`, or one without kernels and GGUF files."""
    return known_family(model_type) or _OTHER


def nearest_family(model_type: str) -> str:
    """The known name that resembles `model_type`; empty for none."""
    close = difflib.get_close_matches(model_type, [*_NAMES], n=1, cutoff=0.6)
    return close[0] if close else ""
