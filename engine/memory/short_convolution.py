"""Bytes that a short convolution keeps for the backward pass, per token, and its scratch there.

It is LFM2's: a projection gives two gates and a value, value times gate is convolved, the other gate multiplies the
result. Counted for PyTorch's own operators, as transformers calls them without kernels; the kernels keep no more. Held
against simulated steps. Not here: convolutions before a state space (`state_space.py`).
"""

from __future__ import annotations

from engine.models.layers import Mixer

_PROJECTED = 3
"""Gate, gate and value: one tensor, kept whole by the products that take its parts."""


def kept_bytes(mixer: Mixer, width: int, *, output_needed: bool) -> int:
    """The projection's output, input and output of the convolution, the last projection's input where it is needed."""
    return (_PROJECTED + 2 + output_needed) * width * mixer.convolved


def backward_bytes(mixer: Mixer, width: int) -> int:
    """Gradients of the three parts, and all of them in one tensor again."""
    return 2 * _PROJECTED * width * mixer.convolved
