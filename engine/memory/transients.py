"""What one layer's backward pass takes beside what the layer kept, in bytes per token, at its worst moment.

Candidates are the feed-forward part, attention's scratch, a wide projection's input gradient, and the norms that follow
a part. Put together by `activations.py`; held against the oracle's simulated steps, family by family.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.memory import short_convolution, state_space
from engine.memory.kinds import mixer_of
from engine.models.family import LigerKernels
from engine.models.spec import ModelSpec

_ACTIVATION_HALVES = {"relu2": 2, "xielu": 3}
"""Half tensors that an activation of several operators forms in its backward pass, beside those of a gate."""


@dataclass(frozen=True, slots=True)
class Backward:
    """What decides the worst moment. `kept_mlp`, `product`: bytes of the feed-forward part, and of its last input."""

    spec: ModelSpec
    dtype: str
    copied: bool
    """Whether automatic casting keeps copies of trained layers' inputs."""
    kernel: str
    kept_mlp: int
    product: int
    recomputed: int
    """Bytes around a wide projection (phi3) while it runs backward or is formed again; 0 where nothing is wide."""
    int8: bool
    full: bool
    """Whether the layer's own weights learn."""
    dropout: bool
    """Whether adapters draw dropout."""
    on_gpu: bool
    fused: LigerKernels | None
    """How Triton kernels are called in this family; None without them."""
    joined: bool
    """Whether the feed-forward output's adapter is formed together with it."""
    shared: int = 0
    """Bytes of the shared expert that are gone when the others run backward; 0 where it runs backward after them."""
    length: int = 0
    """Of a row, where a state space fills it up to whole chunks."""
    padded: float = 1.0
    """As `device.padded_share`."""

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return 4 if self.dtype == "fp32" else 2


def worst_bytes(layer: Backward, *, again: bool) -> int:
    """The largest of the candidates, in a layer that is formed `again` or in one that was kept."""
    spec, width = layer.spec, layer.width
    wide = layer.recomputed + 2 * width * spec.hidden_size - layer.kept_mlp if layer.recomputed else 0
    return max(_feed_forward(layer, again), _attention(layer), wide, _norm_after(layer), _mixer(layer), 0)


def beside_matrix(layer: Backward, inner: int, *, again: bool) -> int:
    """The product's gradient while its layer's matrix is dequantized, and the product where that stays."""
    gone = again and layer.joined
    return (0 if gone else layer.width * inner) + scaled_bytes(layer) + _apart(layer)


def scaled_bytes(layer: Backward) -> int:
    """Where each part is scaled before it joins the stream, its gradient is too: one more of the stream's size.

    Plain operators have larger moments after that one is gone.
    """
    return layer.width * layer.spec.hidden_size if layer.spec.traits.scales_stream and _fused_gate(layer) else 0


def _apart(layer: Backward) -> int:
    """A norm's kernel that may not write over a gradient makes one of its own, beside that of the stream."""
    in_place = layer.fused is None or layer.fused.norms_in_place
    return 0 if in_place else layer.width * layer.spec.hidden_size


def _fused_gate(layer: Backward) -> bool:
    return layer.fused is not None and bool(layer.fused.gate) and not layer.spec.num_experts


def _attention(layer: Backward) -> int:
    """fp32 query gradient, expanded key and value gradients: after the feed-forward part has been freed."""
    query, key = layer.spec.sizes.query_width, layer.spec.sizes.key_width
    # The memory-efficient kernel gets repeated keys and values, and gives gradients as wide.
    copies = {"varlen": 2, "packed": 5}.get(layer.kernel, 0) * (query != key)
    # Where the feed-forward part is small, the gradients themselves and what they are copied from count; of repeated
    # keys the copies are the gradients.
    repeated = layer.kernel == "packed" and query != key and not layer.fused
    gradients = 0 if repeated else layer.width * (query + (3 if layer.fused else 2) * key)
    accumulated = int(layer.padded * 4 * (query + layer.spec.num_attention_heads))
    return accumulated + copies * layer.width * query + gradients - layer.kept_mlp


def _mixer(layer: Backward) -> int:
    """A short convolution or a state space: after the feed-forward part has been freed, or before it is formed."""
    mixer = mixer_of(layer.spec)
    if mixer.heads:
        return state_space.worst_bytes(mixer, layer.length) - layer.kept_mlp
    return short_convolution.backward_bytes(mixer, layer.width) - layer.kept_mlp


def _norm_after(layer: Backward) -> int:
    """A plain norm behind the feed-forward part runs backward while all that the layer kept is there."""
    spec = layer.spec
    if not spec.traits.norm_after_mlp or layer.fused or not layer.on_gpu:
        return 0
    return (16 if layer.dtype == "fp32" else 18) * spec.hidden_size


def _feed_forward(layer: Backward, again: bool) -> int:
    spec, width, inner = layer.spec, layer.width, layer.spec.intermediate_size
    if spec.num_experts:
        # Gradients of all experts' outputs and inputs, and their sum by token; of weighted outputs in fp32, their cast.
        weighted = 14 if layer.dtype in spec.traits.fp32_shares else 3 * width
        return spec.num_experts_per_token * max(weighted * spec.hidden_size, 2 * width * inner) - layer.shared
    gradients = _fused_feed_forward(layer, again) if _fused_gate(layer) else _plain_feed_forward(layer)
    # int8 layers look for outliers in an fp16 copy.
    beside = width * spec.hidden_size if layer.fused else 0
    return max(gradients, 6 * inner + beside if layer.int8 else 0)


def _plain_feed_forward(layer: Backward) -> int:
    """Gradients of the product and of both its factors, when the product is gone; autocast keeps it as a copy."""
    inner = layer.spec.intermediate_size
    more = _ACTIVATION_HALVES.get(layer.spec.traits.activation, 0) * layer.width * inner // 2
    if layer.copied and not layer.full:
        # fp32 copies of what adapters take, and of their gradients.
        return more + 7 * inner + 6 * layer.spec.hidden_size
    return more + (5 * inner if layer.copied else 3 * layer.width * inner - layer.product)


def _fused_feed_forward(layer: Backward, again: bool) -> int:
    """The product's gradient while the product is there; those of gate and up are written over them.

    A layer that is formed again lets go of the product before its gradient is formed.
    """
    spec, width, inner = layer.spec, layer.width, layer.spec.intermediate_size
    if layer.dtype == "fp16":
        return 4 * inner + scaled_bytes(layer)
    if layer.dropout:
        # The adapter's part of that gradient passes dropout on its own.
        return 2 * width * inner + scaled_bytes(layer)
    apart = _apart(layer)
    if again and layer.joined:
        return 2 * apart + scaled_bytes(layer)
    # An output without an adapter is recomputed whole: its product and the output are there together.
    output = 0 if layer.product else width * spec.hidden_size + apart
    return width * inner + output + scaled_bytes(layer)
