"""What the parts of one layer keep for the backward pass, per token: norms, attention, feed-forward part.

Plain functions of a model's numbers and of what is asked of the layer; `activations.py` puts them together.
"""

from __future__ import annotations

from engine.memory import experts, latent_attention, norms
from engine.memory.kinds import head_norm
from engine.models.family import LigerKernels
from engine.models.spec import ModelSpec


def norm_bytes(spec: ModelSpec, width: int, full: bool, fused: LigerKernels | None) -> int:
    """Norms: fp32 inputs, and where trained what multiplies the weight.

    Triton kernels (`fused`) keep the input as it came and one fp32 factor a row, whether the weight learns or not.
    """
    count, hidden = spec.traits.norms_per_layer, spec.hidden_size
    if fused is not None:
        return count * (width * hidden + 4) + _head_norm_bytes(spec, width)
    # A trained norm keeps what it multiplies its weight with; torch's own layer norm forms it again.
    normed = (4 if spec.traits.norm_product_fp32 else width) if full and not spec.traits.biased_norms else 0
    size = count * ((norms.kept_input(spec, width) + normed) * hidden + norms.kept_of_row(spec))
    return size + _head_norm_bytes(spec, 4 + normed)


def _head_norm_bytes(spec: ModelSpec, width: int) -> int:
    """Norms of queries and keys at `width` bytes a value, with a factor for each row; 0 in layers without them."""
    if latent := latent_attention.of_spec(spec):
        return latent_attention.norm_bytes(latent, width)
    norm = head_norm(spec)
    if not norm or (len(spec.layer_groups) == 1 and spec.layer_groups[0].delta):
        return 0
    heads = 2 if norm == "width" else spec.num_attention_heads + spec.num_key_value_heads
    return width * (spec.sizes.query_width + spec.sizes.key_width) + 4 * heads


def attention_bytes(spec: ModelSpec, width: int, kernel: str, output_needed: bool) -> int:
    """Attention; `kernel` as in `device.attention_kernel`."""
    if latent := latent_attention.of_spec(spec):
        return latent_attention.kept_bytes(latent, spec.num_attention_heads, width, kernel, output_needed=output_needed)
    query, key = spec.sizes.query_width, spec.sizes.key_width
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
    if latent := latent_attention.of_spec(spec):
        return latent_attention.output_bytes(latent, spec.num_attention_heads, width)
    return width * spec.sizes.query_width + 4 * spec.num_attention_heads


def mlp_bytes(spec: ModelSpec, width: int, product_needed: bool, full: bool, fused_gate: bool) -> int:
    """Feed-forward part, of all experts that a token meets. `fused_gate`: gate and up are kept, no activation."""
    inner = spec.intermediate_size
    if spec.num_experts:
        # Gate and up, activation and each expert's output; trained experts also need their two inputs.
        inners, outers = (4, 2) if full else (3, 1)
        inners += experts.clamped_halves(spec)
        routed = (
            spec.num_experts_per_token * width * (inners * inner + outers * spec.hidden_size) + 8 * spec.num_experts
        )
        # An expert that every token meets may pass a gate.
        routed += width * spec.hidden_size * ("shared_expert_gate" in spec.sizes.linear_shapes)
        return routed + shared_expert_bytes(spec, width, product_needed)
    parts = (2 if fused_gate else 3 if spec.gated_mlp else 1) + (1 if product_needed else 0)
    return parts * width * inner + _activation_bytes(spec, width, full)


def shared_expert_bytes(spec: ModelSpec, width: int, product_needed: bool) -> int:
    """The expert that every token meets: a plain feed-forward part with plain operators."""
    return (3 + product_needed) * width * spec.shared_intermediate_size


def _activation_bytes(spec: ModelSpec, width: int, full: bool) -> int:
    """What an activation of several operators keeps besides its input."""
    if spec.traits.activation == "xielu":
        # Two products, one more where it learns, and a mask.
        return ((3 if full else 2) * width + 1) * spec.intermediate_size
    # GELU by the formula: half of the input, the tangent, and 1 more than that.
    return 3 * width * spec.intermediate_size if spec.traits.activation == "gelu_new" else 0
