"""Formats of a checkpoint's weights that are dequantized while they are loaded, and those that are refused. Torch-free.

MXFP4 (gpt-oss as published) and fine-grained FP8 (DeepSeek, Ministral 3, Qwen3 FP8) are what their makers publish; a
run takes them as 16-bit weights. Not here: reading them (`engine.modeling.stored_weights`), their bytes
(`engine.memory.stored`).
"""

from __future__ import annotations

from typing import Any

from engine.errors import EngineError
from engine.models.numbers import refuse
from engine.text import sanitize

NAMES = {"mxfp4": "MXFP4", "fp8": "FP8"}
"""By transformers' `quant_method`: what a person knows the format as."""
MXFP4_FAMILIES = frozenset({"gpt_oss"})
_ORIGINAL = "use the original weights; quantization.method = 'nf4' quantizes them while loading"


def settings_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """What a config.json says of how its weights are stored; None for plain ones."""
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        found = part.get("quantization_config")
        if isinstance(found, dict):
            return found
    return None


def stored_format(config: dict[str, Any], family: str, where: str) -> str:
    """`mxfp4`, `fp8`, or empty for plain weights. Raises EngineError(MODEL) for formats that cannot be read back."""
    found = settings_of(config)
    if found is None:
        return ""
    method = sanitize(str(found.get("quant_method", "unknown")), max_chars=40, single_line=True)
    if method not in NAMES:
        raise _refused(method, where)
    if method == "mxfp4" and family not in MXFP4_FAMILIES:
        raise _refused(f"{method}, which is known of gpt-oss alone", where)
    if method == "fp8":
        _check_blocks(found, where)
    return method


def _check_blocks(settings: dict[str, Any], where: str) -> None:
    if settings.get("expert_dtype") == "fp4":
        raise _refused("fp8 with experts in fp4", where)
    sides = settings.get("weight_block_size")
    if sides is not None and not (
        isinstance(sides, list | tuple)
        and len(sides) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= 2**20 for side in sides)
    ):
        shown = sanitize(repr(sides), max_chars=40, single_line=True)
        raise refuse(f"has weight_block_size = {shown}; two whole numbers belong there", where, "correct the file")


def _refused(what: str, where: str) -> EngineError:
    return refuse(f"says that its weights are already quantized ({what})", where, _ORIGINAL)
