"""What the engine knows of a model family, one row an architecture. Torch-free.

`FAMILIES` is keyed by transformers' `model_type` of the text model. Reading a configuration, counting parameters, the
memory and time models, the Triton kernels and GGUF files all read the row: adding a family is adding a row. A family
without one counts as a plain Llama, without kernels and GGUF files. The tests hold each row against transformers'
own model. Not here: the numbers of one model (`spec.py`), the marks of chat templates (`engine.data.templates`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

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
    attention_bias: bool = False
    """Whether query, key and value have biases where the configuration does not say."""
    output_bias: bool = False
    """Whether `attention_bias` also covers the output projection."""
    tied_by_default: bool = False
    """Whether embedding and output head are one matrix where the configuration does not say."""
    norms_per_layer: Literal[2, 4] = 2
    """RMSNorms over the residual stream."""
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

_LLAMA = Family(
    name="llama", checked=True, output_bias=True, kernels=_PRE_NORM, gguf=Gguf("llama", rotates_neighbors=True)
)
_QWEN2 = Family(
    name="qwen2", checked=True, attention_bias=True, kernels=_PRE_NORM, gguf=Gguf("qwen2", splitter="qwen2")
)
_QWEN3 = Family(
    name="qwen3", checked=True, query_key_norm="head", kernels=_PRE_NORM, gguf=Gguf("qwen3", splitter="qwen2")
)
_GEMMA = Family(name="gemma", tied_by_default=True, norm_product_fp32=True, overflows_fp16=True)
_GEMMA3 = replace(
    _GEMMA,
    name="gemma3",
    alternating_windows=True,
    norms_per_layer=4,
    norm_after_mlp=True,
    query_key_norm="head",
    rotary_kinds=2,
)
_GEMMA4 = Family(name="gemma4", alternating_windows=True, norm_product_fp32=True, overflows_fp16=True)
_GEMMA3N = replace(_GEMMA4, name="gemma3n", rotary_kinds=2)
_PHI3 = Family(name="phi3", checked=True, fused_projections=True, kernels=_PRE_NORM, gguf=Gguf("phi3", splitter="dbrx"))
_PLAIN_MLP = Family(name="opt", gated_mlp=False)

_ROWS = (
    _LLAMA,
    replace(_LLAMA, name="mistral"),
    Family(name="ministral3", kernels=_PRE_NORM),
    Family(name="smollm3", checked=True, kernels=_PRE_NORM),
    _QWEN2,
    Family(name="qwen2_moe", attention_bias=True, gguf=Gguf("qwen2moe", splitter="qwen2")),
    _QWEN3,
    # Experts have their own code.
    replace(_QWEN3, name="qwen3_moe", kernels=LigerKernels(gate=""), gguf=Gguf("qwen3moe", splitter="qwen2")),
    # The attention gate lies in the same rows as the query; the linear attention layers keep their own norm.
    Family(name="qwen3_5_text", kernels=LigerKernels("gemma", 1.0)),
    _GEMMA,
    replace(
        _GEMMA,
        name="gemma2",
        checked=True,
        alternating_windows=True,
        norms_per_layer=4,
        norm_after_mlp=True,
        soft_caps=True,
        kernels=_POST_NORM,
        gguf=Gguf("gemma2", shifts_norms=True, knows_windows=True),
    ),
    _GEMMA3,
    replace(
        _GEMMA3,
        name="gemma3_text",
        checked=True,
        kernels=_POST_NORM,
        gguf=Gguf("gemma3", shifts_norms=True, knows_windows=True),
    ),
    _GEMMA3N,
    replace(_GEMMA3N, name="gemma3n_text"),
    _GEMMA4,
    # Query and key are rotated one by one.
    replace(
        _GEMMA4,
        name="gemma4_text",
        kernels=LigerKernels("gemma", norms_in_place=False, rotary=False, gate="gelu_tanh"),
    ),
    replace(_GEMMA4, name="gemma4_unified"),
    replace(_GEMMA4, name="gemma4_unified_text"),
    _PHI3,
    replace(_PHI3, name="phi4", checked=False, kernels=None, gguf=None),
    Family(
        name="olmo2",
        checked=True,
        query_key_norm="width",
        norm_product_fp32=True,
        norm_after_mlp=True,
        kernels=_OLMO_KERNELS,
    ),
    Family(name="olmo3", alternating_windows=True, kernels=_OLMO_KERNELS),
    Family(name="granite", checked=True, output_bias=True, scales_stream=True, kernels=_PRE_NORM),
    Family(name="exaone4", alternating_windows=True, kernels=LigerKernels(norms_in_place=False)),
    # Neighbors are rotated, not halves.
    Family(name="glm4", fused_projections=True, kernels=LigerKernels(norms_in_place=False, rotary=False)),
    # Cosine and sine are half as wide as elsewhere; experts have their own code.
    Family(name="gpt_oss", alternating_windows=True, kernels=LigerKernels("gemma", rotary=False, gate="")),
    _PLAIN_MLP,
    replace(_PLAIN_MLP, name="gpt_neox"),
    replace(_PLAIN_MLP, name="nemotron"),
    replace(_PLAIN_MLP, name="phi", attention_bias=True),
    replace(_PLAIN_MLP, name="starcoder2", attention_bias=True),
    replace(_PLAIN_MLP, name="gpt2", fourfold_mlp=True),
    replace(_PLAIN_MLP, name="gptj", fourfold_mlp=True),
    replace(_PLAIN_MLP, name="gpt_neo", fourfold_mlp=True),
    replace(_PLAIN_MLP, name="falcon", fourfold_mlp=True),
)

FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
_OTHER = Family(name="other")
"""For a `model_type` without a row."""


def family_of(model_type: str) -> Family:
    """The row of a `model_type`, or that of a plain Llama without kernels and GGUF files."""
    return FAMILIES.get(model_type, _OTHER)
