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
    rotary_rounds: bool = False
    """Whether cosine and sine come in fp32 and the rotated query in its own type (OLMo)."""
    gate: Literal["silu", "gelu_tanh", ""] = "silu"
    """Activation of the gated feed-forward part that has a kernel; empty where none fits."""


_PRE_NORM = KernelFamily()
_GEMMA = KernelFamily("gemma", 1.0, norms_in_place=False, gate="gelu_tanh")
_OLMO = KernelFamily("gemma", norms_in_place=False, rotary_rounds=True)

KERNEL_FAMILIES: dict[str, KernelFamily] = {
    "llama": _PRE_NORM,
    "mistral": _PRE_NORM,
    "ministral3": _PRE_NORM,
    "qwen2": _PRE_NORM,
    "qwen3": _PRE_NORM,
    "smollm3": _PRE_NORM,
    "granite": _PRE_NORM,
    "phi3": _PRE_NORM,
    # Experts have their own code.
    "qwen3_moe": KernelFamily(gate=""),
    # The attention gate lies in the same rows as the query; the linear attention layers keep their own norm.
    "qwen3_5_text": KernelFamily("gemma", 1.0),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    # Query and key are rotated one by one.
    "gemma4_text": KernelFamily("gemma", norms_in_place=False, rotary=False, gate="gelu_tanh"),
    "olmo2": _OLMO,
    "olmo3": _OLMO,
    "exaone4": KernelFamily(norms_in_place=False),
    # Neighbors are rotated, not halves.
    "glm4": KernelFamily(norms_in_place=False, rotary=False),
    # Cosine and sine are half as wide as elsewhere; experts have their own code.
    "gpt_oss": KernelFamily("gemma", rotary=False, gate=""),
}


def kernel_family(family: str) -> KernelFamily | None:
    """The row of a `model_type`; None for one without kernels."""
    return KERNEL_FAMILIES.get(family)
