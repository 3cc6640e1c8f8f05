"""Bytes that a state space (Mamba 2) keeps for the backward pass, per token, and the widest moment of its scan.

Counted for PyTorch's own operators, as transformers calls them without kernels: they form the squares of each chunk for
each head, and repeat what the heads of a group share, all in fp32. The kernels take a fraction of it; until one was
measured, no figure is given for them. What is kept follows autograd byte by byte, the scan simulated steps. Not here:
short convolutions without a state space (`short_convolution.py`).
"""

from __future__ import annotations

from engine.models.layers import Mixer

_SQUARES = 3
"""Decays, scores and their product, for each head and pair of tokens in a chunk."""
_REPEATED, _REPEATED_AT_WORST = 5, 2
"""Inputs and outputs of the states, repeated for each head, in the layouts of the products; more during the scan."""
_SCANNED, _SCANNED_AT_WORST = 4, 6
"""Features in fp32, in the layouts of the products."""
_STATES, _STATES_AT_WORST = 2.2, 3.1
"""States of a chunk."""


def kept_bytes(mixer: Mixer, width: int, length: int) -> int:
    """What one token leaves; `length`: of its row, which is filled up to whole chunks."""
    features = mixer.heads * mixer.head_size
    projected = width * (features + 2 * mixer.convolved + mixer.heads)
    # With a norm the gate is taken in fp32: it, its activation, their product and what the norm divides.
    gated = 4 * 4 * features if mixer.normed else (4 + width) * features
    scan = 4 * (_SQUARES * mixer.heads * mixer.chunk + _REPEATED * mixer.heads * mixer.states + _SCANNED * features)
    scan += int(_STATES * _state_bytes(mixer)) + 20 * mixer.heads
    return projected + gated + _filled(scan, mixer, length)


def worst_bytes(mixer: Mixer, length: int) -> int:
    """Extra at the end of the scan, when nothing behind it is there yet, or in the backward pass, when it is gone.

    There, the gradients of two squares come to those that were kept.
    """
    features = mixer.heads * mixer.head_size
    behind = 4 * 4 * features if mixer.normed else 4 * features
    scan = 4 * (_REPEATED_AT_WORST * mixer.heads * mixer.states + _SCANNED_AT_WORST * features)
    ending = scan + int(_STATES_AT_WORST * _state_bytes(mixer))
    returning = 4 * mixer.heads * (2 * mixer.chunk - mixer.states)
    return _filled(max(ending, returning), mixer, length) - behind


def _state_bytes(mixer: Mixer) -> float:
    return 4 * mixer.heads * mixer.head_size * mixer.states / max(1, mixer.chunk)


def _filled(size: int, mixer: Mixer, length: int) -> int:
    chunk = max(1, mixer.chunk)
    return size * (-(-length // chunk) * chunk) // max(1, length)
