"""The positions that a GGUF file says, as the `rope_parameters` of transformers: what its own reader leaves out.

Llama 3's scaling is a tensor of divisors in the file. The numbers that made it are found again from it; only their
ratios matter, so that the low one is taken as 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np

from engine.modeling import gguf_rope

Parameters = dict[str, Any]


def parameters_in(reader: gguf.GGUFReader) -> Parameters:
    """`rope_parameters` of the file's model, by kind of layer where these turn differently.

    Raises ValueError for positions scaled in a way that no configuration says.
    """
    own = _of_all(reader)
    if not gguf_rope.turns_by_kind(reader):
        return own
    windowed = {"rope_type": "default", "rope_theta": gguf_rope.windowed_base(reader)}
    return {"full_attention": own, "sliding_attention": windowed}


def _of_all(reader: gguf.GGUFReader) -> Parameters:
    def value(key: str, otherwise: Any = None) -> Any:
        return gguf_rope.value_in(reader, key, otherwise)

    found: Parameters = {"rope_type": "default", "rope_theta": float(value("rope.freq_base", 10_000.0))}
    turned, width = value("rope.dimension_count"), value("attention.key_length")
    if turned and width and turned < width:
        found["partial_rotary_factor"] = turned / width
    divisors = next((np.array(each.data) for each in reader.tensors if each.name == gguf_rope.FREQS), None)
    if divisors is not None:
        return {**found, **llama3_parameters(divisors.astype(np.float64), found["rope_theta"])}
    kind = value("rope.scaling.type", "none")
    if kind == "linear":
        return {**found, "rope_type": "linear", "factor": float(value("rope.scaling.factor", 1.0))}
    return {**found, **_yarn(value)} if kind == "yarn" else _unscaled(found, kind, reader)


def _unscaled(found: Parameters, kind: str, reader: gguf.GGUFReader) -> Parameters:
    kind = "longrope" if any(tensor.name.startswith("rope_factors_") for tensor in reader.tensors) else kind
    if kind not in ("none", ""):
        raise ValueError(f"its positions are scaled by '{kind}', which is not read from GGUF")
    return found


def _yarn(value: Any) -> Parameters:
    found: Parameters = {
        "rope_type": "yarn",
        "factor": float(value("rope.scaling.factor", 1.0)),
        "original_max_position_embeddings": int(value("rope.scaling.original_context_length")),
        "beta_fast": float(value("rope.scaling.yarn_beta_fast", 32.0)),
        "beta_slow": float(value("rope.scaling.yarn_beta_slow", 1.0)),
    }
    if multiplier := value("rope.scaling.yarn_log_multiplier"):
        found |= {"mscale": 1.0, "mscale_all_dim": float(multiplier)}
    if (scale := value("attention.temperature_scale")) is not None:
        found["llama_4_scaling_beta"] = float(scale)
    return found


def llama3_parameters(divisors: np.ndarray, base: float) -> Parameters:
    """The numbers whose divisors these are. Raises ValueError where no numbers give them.

    Between the long and the short waves, 1/divisor is a straight line over the frequency: two points there say all,
    and with fewer several numbers give the same divisors.
    """
    width, factor = 2 * len(divisors), float(divisors.max())
    frequencies = base ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    for turns, high in _candidates(frequencies, divisors, factor):
        found = {
            "rope_type": "llama3",
            "rope_theta": base,
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": float(high),
            "original_max_position_embeddings": round(float(turns) * 2 * math.pi),
        }
        if np.allclose(gguf_rope.llama3_divisors(found, width), divisors, rtol=1e-3):
            return found
    raise ValueError("its tensor of divisors of positions is not Llama 3's, and is not read from GGUF")


def _candidates(frequencies: np.ndarray, divisors: np.ndarray, factor: float) -> Iterator[tuple[float, float]]:
    """(turns of a wave of frequency 1 in the original length, high factor), with the low factor at 1."""
    between = (divisors > 1 + 1e-6) & (divisors < factor * (1 - 1e-6))
    smooth = (1 / divisors[between] - 1 / factor) / (1 - 1 / factor)
    if len(smooth) > 1:
        slope, start = np.polyfit(frequencies[between], smooth, 1)
        yield slope / -start, 1 - 1 / start
        return
    for high in _HIGH:
        if len(smooth):
            yield float((smooth[0] * (high - 1) + 1) / frequencies[between][0]), high
        else:
            slow, fast = frequencies[divisors > 1 + 1e-6], frequencies[divisors <= 1 + 1e-6]
            yield math.sqrt(high / (fast.min(initial=1.0) * slow.max(initial=1e-12))), high


_HIGH = (4.0, 2.0, 8.0, 1.5, 1.2, 1.05)
"""What is tried, Meta's own first."""
