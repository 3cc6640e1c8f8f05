"""Which model families have Triton kernels (liger-kernel's), and how those must be called for each. Torch-free.

`engine.modeling.liger` binds the kernels by these rows, `engine.memory` counts what they keep. A family that is missing
here keeps transformers' own operators. Keys are `model_type` of the text model's configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class KernelFamily:
    """How one architecture's norms, rotation and gate are written."""

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
    gate: Literal["silu", "gelu_tanh", ""] = "silu"
    """Activation of the gated feed-forward part that has a kernel; empty where none fits."""


_PLAIN = KernelFamily()

KERNEL_FAMILIES: dict[str, KernelFamily] = {
    "llama": _PLAIN,
    "mistral": _PLAIN,
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "smollm3": _PLAIN,
    "granite": _PLAIN,
    "phi3": _PLAIN,
    "qwen3_moe": KernelFamily(gate=""),
    "gemma2": KernelFamily("gemma", 1.0, norms_in_place=False, gate="gelu_tanh"),
    "gemma3_text": KernelFamily("gemma", 1.0, norms_in_place=False, gate="gelu_tanh"),
    "olmo2": KernelFamily("gemma", norms_in_place=False),
}


def kernel_family(family: str) -> KernelFamily | None:
    """The row of a `model_type`; None for one without kernels."""
    return KERNEL_FAMILIES.get(family)
