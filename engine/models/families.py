"""What the engine knows of a model family, one row an architecture. Torch-free.

`FAMILIES` is keyed by transformers' `model_type` of the text model. Reading a configuration, counting parameters, the
memory and time models and the Triton kernels all read the row: adding a family is adding a row. A family
without one is refused where a number would be shown. The tests hold each row against transformers' own model. Not here:
the numbers of one model (`spec.py`), families with layers of several kinds (`layouts.py`), the marks of chat templates
(`engine.data.templates`).
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from engine.models import layouts, layouts_gemma, layouts_hybrid, layouts_latent, layouts_plain, layouts_states
from engine.models.family import ATTENTION_LAYERS, Family, LigerKernels
from engine.models.gguf_names import WRITTEN

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
)
_QWEN2 = Family(
    name="qwen2",
    reads_attention_bias=False,
    also=("qwen2_vl_text", "qwen2_5_vl_text"),
    checked=True,
    attention_bias=True,
    kernels=_PRE_NORM,
)
_QWEN3 = Family(
    name="qwen3",
    also=("qwen3_vl_text",),
    checked=True,
    query_key_norm="head",
    output_bias=True,
    kernels=_PRE_NORM,
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
_COHERE = Family(name="cohere", tied_by_default=True, norms_per_layer=1, output_bias=True, centers_norms=True)
_MIXTRAL = Family(
    name="mixtral", reads_attention_bias=False, mixes_experts=True, fp32_shares=frozenset({"bf16", "fp16"})
)
_LINEAR = Family(
    name="qwen3_next",
    layout=layouts_hybrid.qwen_linear,
    layer_kinds=ATTENTION_LAYERS | {"linear_attention"},
    reads=frozenset({"linear_*", "shared_expert_intermediate_size"}),
    mixes_experts=True,
    query_key_norm="head",
    norm_product_fp32=True,
    gates_attention=True,
    packs_with=("flash-linear-attention", "causal-conv1d"),
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
    layout=layouts_latent.with_experts,
    latent=True,
    heads_first=True,
    fp32_shares=frozenset({"bf16"}),
    shared_expert_last=True,
    reads=frozenset({"kv_lora_rank", "first_k_dense_replace", "n_shared_experts"}),
    mixes_experts=True,
)
_OLD = "its modules have names and biases that this trainer does not know"

_ROWS = (
    _LLAMA,
    replace(_LLAMA, name="internlm3", checked=False),
    Family(name="cwm", reads_attention_bias=False, reads_mlp_bias=True, alternating_windows=True),
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
    _COHERE,
    replace(_COHERE, name="cohere2", alternating_windows=True),
    Family(name="helium", reads_mlp_bias=True, norm_product_fp32=True),
    Family(name="stablelm", layout=layouts_plain.stablelm, biased_norms=True),
    Family(
        name="starcoder2",
        layout=layouts_plain.starcoder2,
        activation="gelu_pytorch_tanh",
        reads=frozenset({"use_bias"}),
        tied_by_default=True,
        gated_mlp=False,
        attention_bias=True,
        biased_norms=True,
    ),
    Family(
        name="phi",
        layout=layouts_plain.phi,
        activation="gelu_new",
        gated_mlp=False,
        biased_head=True,
        attention_bias=True,
        norms_per_layer=1,
        biased_norms=True,
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
    ),
    _GEMMA,
    replace(
        _GEMMA2,
        checked=True,
        soft_caps=True,
        caps_logits=True,
        kernels=_POST_NORM,
    ),
    replace(
        _GEMMA2,
        name="gemma3_text",
        also=("gemma3",),
        checked=True,
        query_key_norm="head",
        rotary_kinds=2,
        kernels=_POST_NORM,
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
        caps_logits=True,
        kernels=None,
        refused="the memory of its several streams (AltUp, LAuReL) was not worked out",
    ),
    Family(
        name="phi3",
        reads_attention_bias=False,
        checked=True,
        fused_projections=True,
        heads_first=True,
        kernels=_PRE_NORM,
    ),
    Family(name="olmo", output_bias=True, bare_norms=True),
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
    Family(name="glm", fused_gate=True, attention_bias=True),
    # Neighbors are rotated, not halves.
    Family(
        name="glm4",
        heads_first=True,
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
        optional_head_norms=True,
        heads_first=True,
        mixes_experts=True,
        fp32_shares=frozenset({"bf16"}),
        shared_expert_last=True,
    ),
    Family(
        name="laguna",
        heads_first=True,
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
        checked=True,
        mixes_experts=True,
        alternating_windows=True,
        attention_bias=True,
        output_bias=True,
        clamps_gate=True,
        kernels=LigerKernels("gemma", rotary=False, gate=""),
    ),
    Family(
        name="llama4_text",
        also=("llama4",),
        layout=layouts.llama4,
        mixes_experts=True,
        refused="each expert takes every token in transformers' code of it, and experts stay in 16 bit",
    ),
    _MIXTRAL,
    replace(
        _MIXTRAL,
        name="olmoe",
        reads_attention_bias=True,
        output_bias=True,
        query_key_norm="width",
        fp32_shares=frozenset(),
    ),
    replace(_MIXTRAL, name="granitemoe", reads_attention_bias=True, output_bias=True, scales_stream=True),
    replace(_MIXTRAL, name="minimax_m2", query_key_norm="width", heads_first=True),
    replace(
        _MIXTRAL,
        name="phimoe",
        reads=frozenset({"lm_head_bias"}),
        reads_attention_bias=True,
        layout=layouts.routed,
        output_bias=True,
        fp32_shares=frozenset(),
        biased_norms=True,
    ),
    Family(
        name="nemotron",
        reads_mlp_bias=True,
        gated_mlp=False,
        output_bias=True,
        biased_norms=True,
        heads_first=True,
        activation="relu2",
    ),
    # The attention gate lies in the same rows as the query; the linear attention layers keep their own norm.
    replace(_LINEAR, name="qwen3_5_text", also=("qwen3_5",), kernels=LigerKernels("gemma", 1.0)),
    replace(_LINEAR, name="qwen3_5_moe_text", also=("qwen3_5_moe",)),
    replace(_LINEAR, misread=frozenset({"gate_proj", "up_proj", "down_proj"})),
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
    replace(_LATENT, name="deepseek_v2", reads_mlp_bias=True, checked=True, fp32_shares=_MIXTRAL.fp32_shares),
    _LATENT,
    replace(_LATENT, name="glm4_moe_lite", checked=True),
    replace(
        _LATENT,
        name="minicpm3",
        checked=True,
        layout=layouts_latent.dense,
        mixes_experts=False,
        tied_by_default=True,
        reads_mlp_bias=True,
        scales_stream=True,
    ),
    *(Family(name=name, refused=_OLD) for name in ("opt", "gpt_neox", "gpt2", "gptj", "gpt_neo", "falcon")),
)

FAMILIES: dict[str, Family] = {row.name: replace(row, gguf=WRITTEN.get(row.name)) for row in _ROWS}
_NAMES: dict[str, Family] = {name: row for row in FAMILIES.values() for name in (row.name, *row.also)}
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
