"""The formats of an export, one row each: who writes it, what a weight takes, what it may cost. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Writer = Literal["bitsandbytes", "torchao", "gguf-py", "llama-quantize"]


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a format may cost before its files count as broken, not as coarse.

    `relative`: error of the logits, root mean square relative to their spread. `perplexity`: factor on the merged
    model's perplexity of the same rows.
    """

    relative: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class Format:
    """A way to store a merged model. `weight_bits`: of a weight in the layers, scales included."""

    name: str
    """As `export.quantized` or `export.gguf` has it."""
    writer: Writer
    weight_bits: float
    limit: Limit
    meaning: str

    @property
    def is_gguf(self) -> bool:
        """Whether it is a kind of GGUF file."""
        return self.writer in ("gguf-py", "llama-quantize")

    @property
    def title(self) -> str:
        """Its name among all formats: `nf4`, `gguf q8_0`."""
        return f"gguf {self.name}" if self.is_gguf else self.name

    @property
    def edges(self) -> str:
        """The kind in which a GGUF file of this one keeps embeddings and head."""
        return "q8_0" if self.writer == "gguf-py" and self.weight_bits < 8 else self.name


# SmolLM2-135M, small and easily upset, is off by 0.18 in eight bits, 0.25 in five, 0.57 in four, 0.31 with mixed three
# and 0.53 with mixed two: up to twice that is allowed. Layers in another order are off by 0.3 (two neighbors) to 1.8
# (all), so GGUF files are also looked at tensor by tensor (`gguf_read.worst_weight`).
_WIDE, _EIGHT = Limit(1e-2, 1.02), Limit(0.35, 1.3)
# Three bits of mantissa fewer than f16.
_BF16 = Limit(3e-2, 1.05)
# One scale for all that a layer ever sees: tokens of large activations make the steps of all others coarse.
_STATIC = Limit(0.6, 1.6)
_FIVE, _FOUR, _THREE, _TWO = Limit(0.55, 1.5), Limit(0.9, 2.0), Limit(1.0, 3.0), Limit(1.1, 10.0)
_K = "needs llama.cpp's llama-quantize"
FORMATS = (
    Format("nf4", "bitsandbytes", 4.13, _FOUR, "4 bits, bitsandbytes"),
    Format("int8", "bitsandbytes", 8.0, _EIGHT, "8 bits, bitsandbytes"),
    Format("int8-dynamic", "torchao", 8.0, _EIGHT, "8 bits, torchao"),
    Format("int8-static", "torchao", 8.0, _STATIC, "8 bits, fixed scales, torchao"),
    Format("f16", "gguf-py", 16.0, _WIDE, "16 bits, for llama.cpp and Ollama"),
    Format("bf16", "gguf-py", 16.0, _BF16, "16 bits with a wider range"),
    Format("q8_0", "gguf-py", 8.5, _EIGHT, "8.5 bits a weight, nearly lossless"),
    Format("q5_1", "gguf-py", 6.0, _FIVE, "6 bits a weight"),
    Format("q5_0", "gguf-py", 5.5, _FIVE, "5.5 bits a weight"),
    Format("q4_0", "gguf-py", 4.5, _FOUR, "4.5 bits a weight"),
    # Bits of K types are llama.cpp's averages over a 7B model.
    Format("q6_k", "llama-quantize", 6.56, _EIGHT, _K),
    Format("q5_k_m", "llama-quantize", 5.69, _FIVE, _K),
    Format("q5_k_s", "llama-quantize", 5.53, _FIVE, _K),
    Format("q4_k_m", "llama-quantize", 4.85, _FOUR, _K),
    Format("q4_k_s", "llama-quantize", 4.58, _FOUR, _K),
    Format("q3_k_l", "llama-quantize", 4.27, _THREE, _K),
    Format("q3_k_m", "llama-quantize", 3.91, _THREE, _K),
    Format("q3_k_s", "llama-quantize", 3.5, _THREE, _K),
    Format("q2_k", "llama-quantize", 3.35, _TWO, _K),
)
BY_NAME = {row.name: row for row in FORMATS}


def _written_by(*writers: Writer) -> tuple[str, ...]:
    return tuple(row.name for row in FORMATS if row.writer in writers)


BITSANDBYTES, TORCHAO = _written_by("bitsandbytes"), _written_by("torchao")
QUANTIZED = (*BITSANDBYTES, *TORCHAO)
"""Names of `export.quantized` and of `--quantize`."""
OWN_GGUF, K_QUANTS = _written_by("gguf-py"), _written_by("llama-quantize")
GGUF = (*OWN_GGUF, *K_QUANTS)
"""Names of `export.gguf` and of `--gguf`."""
DTYPES = ("bf16", "fp16", "fp32")
"""Of the merged model: names of `export.dtype` and of `--dtype`."""
