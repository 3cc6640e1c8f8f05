"""Scaled rotary positions in a GGUF file: written as llama.cpp's converter does, and read back as llama.cpp does.

Llama 3's scaling is a tensor of divisors, one a pair of dimensions; linear scaling and YaRN are metadata, as is the
rate at which the windowed layers of Gemma 3 turn. transformers reads none of them, so that whoever loads a file puts on
what it says (`put_on`).
"""

from __future__ import annotations

import math
from typing import Any

import gguf
import numpy as np
import torch

from engine.models.families import family_of

FREQS = "rope_freqs.weight"
_YARN_KEYS = {"rope_theta", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow"}
_ALSO_KNOWN = {"ministral3": {"mscale", "mscale_all_dim", "llama_4_scaling_beta", "max_position_embeddings"}}
"""Numbers of YaRN that the files of one family have."""


def width_of(config: dict[str, Any]) -> int:
    """Values of a head."""
    return int(config.get("head_dim") or config["hidden_size"] // int(config["num_attention_heads"]))


def parameters_of(config: dict[str, Any]) -> dict[str, Any]:
    """Kind, base and scaling of a configuration, in the newer or the older spelling of transformers.

    Of layers without a window, where those with one turn otherwise.
    """
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    found = {**found, **(found.get("full_attention") or {})}
    found.pop("full_attention", None)
    found.pop("sliding_attention", None)
    found.setdefault("rope_theta", config.get("rope_theta") or 10_000.0)
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    if found["rope_type"] == "dynamic" and found.get("alpha"):
        # Hunyuan: a larger base, whatever the length.
        width = width_of(config)
        found["rope_theta"] = float(found["rope_theta"]) * float(found["alpha"]) ** (width / (width - 2))
        found["rope_type"] = "default"
    return found


def windowed_parameters_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """The same of layers with a window; None where all layers turn alike."""
    found = (config.get("rope_parameters") or {}).get("sliding_attention")
    return parameters_of({"rope_parameters": found}) if isinstance(found, dict) else None


def refusal(config: dict[str, Any]) -> str:
    """Why the positions of this model cannot be written; empty when they can."""
    rope = parameters_of(config)
    kind = rope["rope_type"]
    windowed = windowed_parameters_of(config)
    scaled = ("default", "yarn") if config.get("model_type") == "olmo3" else ("default", "linear")
    if windowed is not None and (kind not in scaled or windowed["rope_type"] != "default"):
        return "positions scaled by other than a factor are not written as GGUF where layers turn differently"
    if kind not in ("default", "linear", "llama3", "yarn"):
        return f"positions scaled by '{kind}' are not written as GGUF"
    covered = family_of(str(config.get("model_type"))).gguf
    if float(rope.get("partial_rotary_factor") or 1.0) != 1.0 and not (covered and covered.rotates_part):
        return "positions on a part of each head are not written as GGUF"
    # llama.cpp takes the factor on attention from `factor` alone, and rounds the borders as `truncate` does.
    other = {key for key, value in rope.items() if value is not None and not (key == "truncate" and value)}
    known = _YARN_KEYS | _ALSO_KNOWN.get(str(config.get("model_type")), set())
    unknown = sorted(other - known - {"rope_type", "type", "partial_rotary_factor"})
    if kind == "yarn" and unknown:
        return f"YaRN with {', '.join(unknown)} is not written as GGUF"
    return ""


def add_rope(writer: Any, config: dict[str, Any], width: int) -> None:
    """Write base and scaling, but for the tensor of `divisors`; `width` is the size of a head."""
    rope = parameters_of(config)
    writer.add_rope_dimension_count(int(width * float(rope.get("partial_rotary_factor") or 1.0)))
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    windowed = windowed_parameters_of(config)
    if windowed is not None:
        writer.add_rope_freq_base_swa(float(windowed["rope_theta"]))
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        original = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(int(original))
        for key, add in (
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(key) is not None:
                add(float(rope[key]))


def divisors(config: dict[str, Any], width: int) -> np.ndarray | None:
    """The tensor FREQS, for a model that has one."""
    rope = parameters_of(config)
    return llama3_divisors(rope, width) if rope["rope_type"] == "llama3" else None


def llama3_divisors(rope: dict[str, Any], width: int) -> np.ndarray:
    """What each frequency is divided by (Llama 3.1): long waves by `factor`, short ones by 1, smoothly between."""
    frequencies = float(rope["rope_theta"]) ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    turns = float(rope["original_max_position_embeddings"]) * frequencies / (2 * math.pi)
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / float(rope["factor"]) + smooth)).astype(np.float32)


def frequencies(reader: gguf.GGUFReader) -> tuple[np.ndarray, float]:
    """(angle a position of each pair of dimensions, factor on cosine and sine) as llama.cpp takes them from a file.

    Source: ggml's rope (`ggml_rope_yarn_corr_dims`, `rope_yarn`), with its defaults for YaRN.
    """

    def value(key: str, otherwise: Any) -> Any:
        return value_in(reader, f"rope.{key}", otherwise)

    width, base = int(value("dimension_count", 0)), float(value("freq_base", 10_000.0))
    plain = base ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    own = next((np.array(tensor.data) for tensor in reader.tensors if tensor.name == FREQS), None)
    if own is not None:
        plain = plain / own
    kind, factor = value("scaling.type", "none"), float(value("scaling.factor", 1.0))
    if kind == "linear":
        return plain / factor, 1.0
    if kind != "yarn":
        return plain, 1.0
    original = int(value("scaling.original_context_length", 0))
    fast, slow = float(value("scaling.yarn_beta_fast", 32.0)), float(value("scaling.yarn_beta_slow", 1.0))
    first, last = (width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base)) for turns in (fast, slow))
    start, end = max(0.0, math.floor(first)), min(width - 1.0, math.ceil(last))
    mix = 1 - np.clip((np.arange(width // 2) - start) / max(0.001, end - start), 0, 1)
    part = 1.0 + 0.1 * float(value("scaling.yarn_log_multiplier", 0.0)) * math.log(factor)
    return plain / factor * (1 - mix) + plain * mix, (1.0 + 0.1 * math.log(factor)) / part


def frequencies_by_kind(reader: gguf.GGUFReader) -> dict[str, tuple[np.ndarray, float]]:
    """`frequencies` by what transformers' buffers of each kind of layer begin with; "" where all turn alike.

    llama.cpp scales only the layers of Gemma 3 and OLMo 3 that see everything.
    """
    own = frequencies(reader)
    if not turns_by_kind(reader):
        return {"": own}
    theta = windowed_base(reader)
    exponents = np.arange(0, 2 * len(own[0]), 2, dtype=np.float64) / (2 * len(own[0]))
    return {"full_attention_": own, "sliding_attention_": (theta**-exponents, 1.0)}


def turns_by_kind(reader: gguf.GGUFReader) -> bool:
    """Whether llama.cpp turns layers with a window otherwise than the others."""
    name = _architecture(reader)
    return name == "gemma3" or (name == "olmo2" and bool(value_in(reader, "attention.sliding_window", 0)))


def windowed_base(reader: gguf.GGUFReader) -> float:
    otherwise = 10_000.0 if _architecture(reader) == "gemma3" else value_in(reader, "rope.freq_base", 10_000.0)
    return float(value_in(reader, "rope.freq_base_swa", otherwise))


def _architecture(reader: gguf.GGUFReader) -> str:
    return str(reader.get_field("general.architecture").contents())


def value_in(reader: gguf.GGUFReader, key: str, otherwise: Any) -> Any:
    field = reader.get_field(f"{_architecture(reader)}.{key}")
    return otherwise if field is None else field.contents()


def put_on(rotary: Any, reader: gguf.GGUFReader) -> None:
    """Let a model's `rotary_emb` turn as the file says."""
    if not is_scaled(reader):
        return
    for kind, (angles, attention) in frequencies_by_kind(reader).items():
        own = getattr(rotary, f"{kind}inv_freq", None)
        if own is not None:
            setattr(rotary, f"{kind}inv_freq", torch.from_numpy(angles).to(own))
            setattr(rotary, f"{kind}attention_scaling", attention)


def differ(rotary: Any, reader: gguf.GGUFReader) -> bool:
    """Whether the file's positions turn otherwise than those of the model whose `rotary_emb` is given."""
    told = frequencies_by_kind(reader)
    found = {kind: getattr(rotary, f"{kind}inv_freq", None) for kind in told}
    # A model of few layers may have none of one kind.
    same = [_same(rotary, kind, own, told[kind]) for kind, own in found.items() if own is not None]
    return not same or not all(same)


def _same(rotary: Any, kind: str, own: torch.Tensor, told: tuple[np.ndarray, float]) -> bool:
    (angles, attention), mine = told, own.double().numpy()
    alike = mine.shape == angles.shape and np.allclose(mine, angles, rtol=1e-4, atol=0)
    return bool(alike and abs(float(getattr(rotary, f"{kind}attention_scaling")) - attention) < 1e-4)


def is_scaled(reader: gguf.GGUFReader) -> bool:
    """Whether the file's positions are other than transformers' reader takes them for."""
    scaling = any(key.endswith(".rope.scaling.type") for key in reader.fields)
    tensors = any(tensor.name == FREQS or tensor.name.startswith("rope_factors_") for tensor in reader.tensors)
    return scaling or tensors or turns_by_kind(reader)
