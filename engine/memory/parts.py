"""What one layer keeps and needs, part by part, in bytes per token; `activations.py` puts them together.

Checked byte by byte against what autograd keeps, family by family, and against the oracle's simulated steps.
"""

from __future__ import annotations

from engine.models.kernel_families import KernelFamily
from engine.models.parameters import key_width, normalises_heads, normalises_whole_width, norms_per_layer, query_width
from engine.models.spec import ModelSpec

_ATTENTION_INPUT = frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj"})
_WIDE_PRODUCT = ("gemma", "olmo2")
_MLP_INPUT = frozenset({"gate_proj", "up_proj", "gate_up_proj"})


def norm_bytes(spec: ModelSpec, width: int, full: bool, fused: KernelFamily | None) -> int:
    """Norms: fp32 inputs, and where trained what multiplies the weight.

    Triton kernels (`fused`) keep the input as it came and one fp32 factor a row, whether the weight learns or not.
    """
    count, hidden = norms_per_layer(spec), spec.hidden_size
    if fused is not None:
        return count * (width * hidden + 4) + _head_norm_bytes(spec, width)
    # A trained norm keeps what it multiplies its weight with; these families do that in fp32.
    normed = (4 if spec.family.startswith(_WIDE_PRODUCT) else width) if full else 0
    size = count * ((4 + normed) * hidden + 4)
    return size + _head_norm_bytes(spec, 4 + normed)


def _head_norm_bytes(spec: ModelSpec, width: int) -> int:
    """Norms of queries and keys at `width` bytes a value, with a factor for each row; 0 in families without them."""
    if not normalises_heads(spec):
        return 0
    heads = 2 if normalises_whole_width(spec) else spec.num_attention_heads + spec.num_key_value_heads
    return width * (query_width(spec) + key_width(spec)) + 4 * heads


def input_bytes(spec: ModelSpec, width: int, full: bool, int8: bool, names: set[str]) -> int:
    """Inputs of projections that need them in the backward pass."""
    attention = full or int8 or bool(names & _ATTENTION_INPUT)
    mlp = full or (int8 and not spec.num_experts) or bool(names & _MLP_INPUT)
    return (attention + mlp) * width * spec.hidden_size


def held_by_int8(spec: ModelSpec) -> int:
    """Features of the inputs that int8 layers keep on their graph nodes, where plain checkpointing does not reach."""
    attention = spec.hidden_size + query_width(spec)
    return attention if spec.num_experts else attention + spec.hidden_size + spec.intermediate_size


def copied_inputs(spec: ModelSpec, adapters: tuple[tuple[str, int, int], ...], full: bool) -> int:
    """16-bit copies of inputs under automatic casting (fp16)."""
    if full:
        query, hidden, inner = query_width(spec), spec.hidden_size, spec.intermediate_size
        # fp32 weights keep the residual stream and norm outputs in fp32 beside the 16-bit copies.
        return 2 * (5 * hidden + query + inner) + 8 * hidden
    return sum(2 * n_in for _, n_in, _ in adapters)


def attention_bytes(spec: ModelSpec, width: int, kernel: str, output_needed: bool) -> int:
    """Attention; `kernel` as in `device.attention_kernel`."""
    query, key = query_width(spec), key_width(spec)
    size = width * (query + 2 * key)
    if kernel not in ("products", "capped"):
        size += attention_output_bytes(spec, width)
    if spec.fused_projections:
        # The value heads are a view that keeps the whole fused projection alive.
        size += width * (query + key)
    if kernel not in ("varlen", "packed", "flex") and output_needed:
        # One call per document: the joined output is a copy beside what a kernel keeps.
        size += width * query
    if kernel == "capped" and query != key:
        # Keys and values are kept as copies for every query head, no longer as they were.
        size += 2 * width * (query - key)
    return size


def attention_output_bytes(spec: ModelSpec, width: int) -> int:
    """What kernels keep beside query, key and value: their output and the logarithm of each row's normalizer."""
    return width * query_width(spec) + 4 * spec.num_attention_heads


def mlp_bytes(spec: ModelSpec, width: int, product_needed: bool, full: bool, fused_gate: bool) -> int:
    """Feed-forward part, of all experts that a token meets. `fused_gate`: gate and up are kept, no activation."""
    inner = spec.intermediate_size
    if spec.num_experts:
        # Gate and up, activation and each expert's output; trained experts also need their two inputs.
        inners, outers = (4, 2) if full else (3, 1)
        return spec.num_experts_per_token * width * (inners * inner + outers * spec.hidden_size) + 8 * spec.num_experts
    parts = (2 if fused_gate else 3 if spec.gated_mlp else 1) + (1 if product_needed else 0)
    return parts * width * inner
