"""Bytes that the forward pass keeps for the backward pass, per token and layer, and its scratch.

Used by `phases.py`. Not here: logits and loss (`loss.py`). The coefficients were checked byte by
byte against the real transformers and PEFT code for Llama blocks (16-bit, fused attention, no
dropout); what deviates from a Llama block is added by the rules beside each term.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.memory.shape import TrainingShape
from engine.memory.states import targeted_shapes
from engine.models.parameters import key_width, normalises_heads, normalises_whole_width, norms_per_layer, query_width
from engine.models.spec import ModelSpec

_ATTENTION_INPUT = frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj"})
_WIDE_PRODUCT = ("gemma", "olmo2")
_MLP_INPUT = frozenset({"gate_proj", "up_proj", "gate_up_proj"})


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Bytes per token of one layer."""

    saved: int
    """Kept from forward to backward where the layer is not checkpointed."""
    transient: int
    """Extra at the worst moment of the layer's backward pass."""
    boundary: int
    """The layer's input: all that a checkpointed layer keeps."""


@lru_cache(maxsize=4096)
def layer_cost(
    spec: ModelSpec,
    method: str,
    dtype: str,
    int8: bool,
    targets: tuple[str, ...],
    r: int,
    dropout: bool,
    kernel: str,
) -> LayerCost:
    """Cost of one layer; `kernel` as in `device.attention_kernel`."""
    width = 4 if dtype == "fp32" else 2
    full = method == "full"
    adapters = () if full else targeted_shapes(spec, targets)
    names = {name for name, _, _ in adapters}
    attention = _attention_bytes(spec, width, kernel, full or int8 or "o_proj" in names)
    mlp = _mlp_bytes(spec, width, full or int8 or "down_proj" in names)
    norms = _norm_bytes(spec, width, full)
    inputs = _input_bytes(spec, width, full or int8, names)
    if dtype == "fp16":
        # Autocast casts the input of every trained linear separately and keeps each copy.
        inputs = _copied_inputs(spec, adapters, full)
        mlp = _mlp_bytes(spec, width, False)
    saved = attention + mlp + norms + inputs + width * r * len(adapters)
    if dropout:
        saved += sum((1 + width) * n_in for _, n_in, _ in adapters)
    return LayerCost(saved, _transient_bytes(spec, dtype, mlp), width * spec.hidden_size)


def cost_of(spec: ModelSpec, shape: TrainingShape, kernel: str) -> LayerCost:
    """`layer_cost` for a shape."""
    return layer_cost(
        spec,
        shape.method,
        shape.compute_dtype,
        shape.quantization == "int8",
        shape.lora_targets,
        shape.lora_r,
        shape.lora_dropout > 0,
        kernel,
    )


def checkpointed_layers(spec: ModelSpec, shape: TrainingShape) -> int:
    """How many layers keep only their input (transformers checkpoints layers 0, n, 2n …)."""
    every = shape.checkpoint_every
    return 0 if every <= 0 else -(-spec.num_hidden_layers // every)


def kept_bytes(spec: ModelSpec, shape: TrainingShape, cost: LayerCost) -> int:
    """All that lives between forward and backward, over all layers."""
    tokens = shape.micro_batch * shape.max_length
    few = checkpointed_layers(spec, shape)
    return tokens * (few * cost.boundary + (spec.num_hidden_layers - few) * cost.saved)


def backward_bytes(spec: ModelSpec, shape: TrainingShape, cost: LayerCost) -> int:
    """Extra while one layer runs backward: its recomputed activations and its scratch."""
    tokens = shape.micro_batch * shape.max_length
    every = shape.checkpoint_every
    last_is_checkpointed = every > 0 and (spec.num_hidden_layers - 1) % every == 0
    return tokens * (cost.transient + (cost.saved if last_is_checkpointed else 0))


def _norm_bytes(spec: ModelSpec, width: int, full: bool) -> int:
    count, hidden = norms_per_layer(spec), spec.hidden_size
    # A trained norm keeps what it multiplies its weight with; these families do that in fp32.
    normed = (4 if spec.family.startswith(_WIDE_PRODUCT) else width) if full else 0
    size = count * ((4 + normed) * hidden + 4)
    if normalises_heads(spec):
        heads = 2 if normalises_whole_width(spec) else spec.num_attention_heads + spec.num_key_value_heads
        size += (4 + normed) * (query_width(spec) + key_width(spec)) + 4 * heads
    return size


def _input_bytes(spec: ModelSpec, width: int, all_needed: bool, names: set[str]) -> int:
    needed = (all_needed or bool(names & _ATTENTION_INPUT)) + (all_needed or bool(names & _MLP_INPUT))
    return needed * width * spec.hidden_size


def _copied_inputs(spec: ModelSpec, adapters: tuple[tuple[str, int, int], ...], full: bool) -> int:
    if full:
        query, hidden, inner = query_width(spec), spec.hidden_size, spec.intermediate_size
        # fp32 weights keep the residual stream and norm outputs in fp32 beside the 16-bit copies.
        return 2 * (5 * hidden + query + inner) + 8 * hidden
    return sum(2 * n_in for _, n_in, _ in adapters)


def _attention_bytes(spec: ModelSpec, width: int, kernel: str, output_needed: bool) -> int:
    query, key = query_width(spec), key_width(spec)
    size = width * (query + 2 * key)
    if kernel != "products":
        # Kernels keep their output and the logarithm of each row's normalizer.
        size += width * query + 4 * spec.num_attention_heads
    if spec.fused_projections:
        # The value heads are a view that keeps the whole fused projection alive.
        size += width * (query + key)
    if kernel != "varlen" and output_needed:
        # One call per document: the joined output is a copy beside what a kernel keeps.
        size += width * query
    if kernel == "repeated" and query != key:
        size += 2 * width * query
    return size


def _mlp_bytes(spec: ModelSpec, width: int, product_needed: bool) -> int:
    inner = spec.intermediate_size
    if spec.num_experts:
        routed = spec.num_experts_per_token
        return routed * width * (4 * inner + 2 * spec.hidden_size) + 8 * spec.num_experts
    parts = (3 if spec.gated_mlp else 1) + (1 if product_needed else 0)
    return parts * width * inner


def _transient_bytes(spec: ModelSpec, dtype: str, mlp_bytes: int) -> int:
    inner = spec.intermediate_size * max(1, spec.num_experts_per_token)
    gradient_width = {"bf16": 2.0, "fp16": 2.5, "fp32": 4.0}[dtype]
    # Attention's scratch (fp32 query gradient, expanded key and value gradients) comes after the
    # feed-forward part of the layer has been freed.
    attention = 8 * query_width(spec) + 4 * spec.num_attention_heads - mlp_bytes
    return max(int(2 * gradient_width * inner), attention)
