"""The formats of an export by name, what each may cost, and what its files must hold. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass

BITSANDBYTES = ("nf4", "int8")
TORCHAO = ("int8-dynamic", "int8-static")
QUANTIZED = (*BITSANDBYTES, *TORCHAO)
"""Names of `export.quantized` and of `--quantize`."""
OWN_GGUF = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_0")
"""Written here, by gguf-py."""
K_QUANTS = ("q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k")
"""Written by llama.cpp's own `llama-quantize`."""
GGUF = (*OWN_GGUF, *K_QUANTS)
"""Names of `export.gguf` and of `--gguf`."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a format may cost before its files count as broken, not as coarse.

    `relative`: error of the logits, root mean square relative to their spread. `perplexity`: factor on the merged
    model's perplexity of the same rows.
    """

    relative: float
    perplexity: float


# SmolLM2-135M, small and easily upset, is off by 0.18 in eight bits, 0.25 in five, 0.57 in four, 0.31 with mixed three
# and 0.53 with mixed two: up to twice that is allowed. Layers in another order are off by 0.3 (two neighbors) to 1.8
# (all), so GGUF files are also looked at tensor by tensor (`gguf_read.worst_weight`).
_WIDE, _EIGHT, _STATIC = Limit(1e-2, 1.02), Limit(0.35, 1.3), Limit(0.6, 1.6)
_FIVE, _FOUR, _THREE, _TWO = Limit(0.55, 1.5), Limit(0.9, 2.0), Limit(1.0, 3.0), Limit(1.1, 10.0)
LIMITS = {
    "f16": _WIDE,
    # Three bits of mantissa fewer than f16.
    "bf16": Limit(3e-2, 1.05),
    "int8": _EIGHT,
    "int8-dynamic": _EIGHT,
    # One scale for all that a layer ever sees: tokens of large activations make the steps of all others coarse.
    "int8-static": _STATIC,
    "nf4": _FOUR,
    "q8_0": _EIGHT,
    "q6_k": _EIGHT,
    **dict.fromkeys(("q5_1", "q5_0", "q5_k_m", "q5_k_s"), _FIVE),
    **dict.fromkeys(("q4_0", "q4_k_m", "q4_k_s"), _FOUR),
    **dict.fromkeys(("q3_k_l", "q3_k_m", "q3_k_s"), _THREE),
    "q2_k": _TWO,
}
