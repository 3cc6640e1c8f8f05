"""What the norms of a family keep of their input for the backward pass.

Not here: how many norms a layer has, and norms of queries and keys (`activations.py`).
"""

from __future__ import annotations

from engine.models.spec import ModelSpec


def kept_input(spec: ModelSpec, width: int) -> int:
    """Bytes a feature, with activations of `width` bytes and plain operators."""
    if spec.traits.biased_norms:
        # torch's own layer norm keeps its input as it came.
        return width
    # Cohere's keeps the input less its mean twice: for the variance, and for the product.
    return 8 if spec.traits.centers_norms else 4


def kept_of_row(spec: ModelSpec) -> int:
    """Bytes a row: an fp32 factor, and torch's layer norm a mean beside it."""
    return 8 if spec.traits.biased_norms else 4
