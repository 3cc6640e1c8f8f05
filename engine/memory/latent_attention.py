"""What a layer with latent attention keeps and takes, in bytes per token, where it differs from other attention.

Keys are put together from an unrotated part for each head and a rotated one that all heads share, so they are a tensor
of their own; values stay a view into what `kv_b_proj` gave, which lives as long as they do. Two narrow vectors pass a
norm each. Value heads may be narrower than the others; where a kernel wants them alike, zeros are beside them while it
runs (`engine.modeling.attention_kernels`). Held against the oracle's simulated steps.
"""

from __future__ import annotations

from functools import lru_cache

from engine.models.layouts_latent import Latent, latent_of
from engine.models.spec import ModelSpec

_ONE_CALL = ("varlen", "packed", "flex")
"""Kernels that take all documents at once: their output is the output layer's input itself."""


@lru_cache(maxsize=1024)
def of_spec(spec: ModelSpec) -> Latent | None:
    """The widths of a model's latent attention; None for a model with another attention."""
    return latent_of(spec.sizes.linear_shapes) if spec.traits.latent else None


def is_narrow(spec: ModelSpec) -> bool:
    """Whether value heads are narrower than the others, so that a kernel's output is copied, rows first in memory."""
    latent = of_spec(spec)
    return latent is not None and latent.value < latent.query


def kept_bytes(latent: Latent, heads: int, width: int, kernel: str, *, output_needed: bool) -> int:
    """Queries, keys, what values are a view of, and the kernel's output."""
    size = width * (latent.query + latent.query + latent.expanded)
    if kernel != "products":
        size += output_bytes(latent, heads, width)
    if kernel not in _ONE_CALL and output_needed:
        # One call per document: the joined output is a copy beside what a kernel keeps.
        size += width * latent.value
    return size


def output_bytes(latent: Latent, heads: int, width: int) -> int:
    """A kernel's output and the logarithm of each row's normalizer."""
    return width * latent.value + 4 * heads


def norm_bytes(latent: Latent, width: int) -> int:
    """The norms of the narrow vectors at `width` bytes a value, with a factor for each row."""
    return width * (latent.query_rank + latent.key_rank) + 4 * (2 if latent.query_rank else 1)


def input_bytes(latent: Latent, width: int, names: set[str], *, every: bool) -> int:
    """Inputs of the layers behind those norms; of `every` one, or of those in `names`."""
    query = latent.query_rank if every or "q_b_proj" in names else 0
    return width * (query + (latent.key_rank if every or "kv_b_proj" in names else 0))


def backward_bytes(latent: Latent, heads: int, width: int, kernel: str) -> int:
    """The kernel's backward pass: fp32 query gradient, three gradients, and zeros beside value, output and gradient."""
    accumulated = 4 * latent.query if kernel in _ONE_CALL and width == 2 else 0
    widened = 3 * width * latent.query if kernel == "varlen" and latent.value < latent.query else 0
    return accumulated + widened + 3 * width * latent.query + width * latent.value + 4 * heads
