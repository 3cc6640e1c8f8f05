"""Functions of CUDA's math library for Triton's interpreter; imported by `triton_on_cpu` once Triton may be."""

import triton
import triton.language as tl


@triton.jit
def rsqrt(x):  # type: ignore[no-untyped-def]
    """1 / sqrt(x)."""
    return 1.0 / tl.sqrt(x)


@triton.jit
def tanh(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent."""
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0
