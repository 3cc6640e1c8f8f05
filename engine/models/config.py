"""A model's config.json as a `ModelSpec`: which architectures are taken, and why others are not.

Called by `resolve.py`. Not here: finding the directory, counting parameters in the weight files
(`safetensors.py`). Everything read is untrusted: types and ranges are checked before use.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.models.families import Family, family_of
from engine.models.spec import ModelSpec
from engine.text import sanitize

MAX_CONFIG_BYTES = 4 * 1024**2
_LIMIT = 10**9
_NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
    "vocab_size": ("vocab_size",),
}
_NOT_CAUSAL = frozenset(
    {"bert", "roberta", "xlm-roberta", "distilbert", "albert", "electra", "deberta", "deberta-v2", "modernbert"}
    | {"vit", "clip", "whisper"}
)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; EngineError when it is missing, too large or not an object."""
    where = sanitize(str(path), single_line=True)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise _refuse("is larger than 4 MiB, which no model configuration is", where, "check the directory")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refuse(f"cannot be read: {error.strerror}", where, "check the path and its permissions") from None
    except (ValueError, RecursionError) as error:
        raise _refuse(f"is not JSON: {str(error)[:120]}", where, "download the model again") from None
    if not isinstance(found, dict):
        raise _refuse("holds no JSON object", where, "download the model again")
    return found


def spec_from_config(config: dict[str, Any], name: str, where: str, *, source: str, path: str | None) -> ModelSpec:
    """Numbers of a decoder-only model; EngineError(MODEL) for what this trainer cannot tune."""
    _check_kind(config, where)
    text = _text_config(config)
    name_of_family = str(text.get("model_type") or config.get("model_type") or "unknown")
    family = family_of(name_of_family)
    _check_layers(text, family, where)
    heads = _number(text, "num_attention_heads", where)
    hidden = _number(text, "hidden_size", where)
    inner = _inner_size(text, family, hidden, where)
    return ModelSpec(
        name=sanitize(name, single_line=True),
        family=sanitize(name_of_family, max_chars=40, single_line=True),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=_number(text, "num_hidden_layers", where),
        num_attention_heads=heads,
        num_key_value_heads=_optional(text, "num_key_value_heads", where) or heads,
        head_dim=_optional(text, "head_dim", where) or max(1, hidden // heads),
        vocab_size=_number(text, "vocab_size", where),
        max_position_embeddings=_optional(text, "max_position_embeddings", where) or 2048,
        tie_word_embeddings=_tied(config, text, family),
        attention_bias=bool(text.get("attention_bias", family.attention_bias)),
        mlp_bias=bool(text.get("mlp_bias", False)),
        gated_mlp=family.gated_mlp,
        fused_projections=family.fused_projections,
        sliding_window=_window(text, where),
        num_experts=_experts(text, where),
        num_experts_per_token=_optional(text, "num_experts_per_tok", where) or 0,
        weights_dtype=sanitize(str(text.get("dtype") or text.get("torch_dtype") or "bfloat16"), max_chars=20),
        source=source,
        path=path,
    )


def _refuse(problem: str, where: str, hint: str) -> EngineError:
    return EngineError(f"the model configuration {problem}", code=ExitCode.MODEL, where=where, hint=hint)


def _check_kind(config: dict[str, Any], where: str) -> None:
    kind = str(config.get("model_type", "unknown"))[:60]
    if config.get("is_encoder_decoder"):
        raise _refuse(f"describes an encoder-decoder ('{kind}')", where, "use a decoder-only model such as Qwen3-0.6B")
    if kind in _NOT_CAUSAL:
        raise _refuse(f"describes '{kind}', which generates no text", where, "use a decoder-only language model")
    quantized = config.get("quantization_config")
    if isinstance(quantized, dict):
        method = str(quantized.get("quant_method", "unknown"))[:40]
        raise _refuse(
            f"says that its weights are already quantized ({method})",
            where,
            "use the original weights; quantization.method = 'nf4' quantizes them while loading",
        )


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    nested = config.get("text_config") or config.get("llm_config")
    return nested if isinstance(nested, dict) and "hidden_size" in nested else config


def _check_layers(text: dict[str, Any], family: Family, where: str) -> None:
    kinds = text.get("layer_types")
    other = (
        {str(kind)[:40] for kind in kinds if str(kind) not in family.layer_kinds} if isinstance(kinds, list) else set()
    )
    if other or "kv_lora_rank" in text or "ssm_cfg" in text or "state_size" in text:
        what = ", ".join(sorted(other)) or "state-space or latent attention"
        raise _refuse(f"has {what} layers, which this trainer does not know", where, "use a Llama-like model")


def _number(text: dict[str, Any], key: str, where: str) -> int:
    for name in _NAMES.get(key, (key,)):
        found = _optional(text, name, where)
        if found is not None:
            return found
    raise _refuse(f"has no '{key}'", where, "use a Llama-like decoder model (Llama, Qwen, Mistral, Gemma, Phi-3 …)")


def _optional(text: dict[str, Any], key: str, where: str) -> int | None:
    value = text.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LIMIT:
        shown = sanitize(repr(value), max_chars=40, single_line=True)
        raise _refuse(f"has {key} = {shown}; a whole number above 0 belongs there", where, "download the model again")
    return value


def _inner_size(text: dict[str, Any], family: Family, hidden: int, where: str) -> int:
    if _experts(text, where):
        expert = _optional(text, "moe_intermediate_size", where)
        if expert:
            return expert
    if family.fourfold_mlp and not any(text.get(key) for key in _NAMES["intermediate_size"]):
        return 4 * hidden
    return _number(text, "intermediate_size", where)


def _experts(text: dict[str, Any], where: str) -> int:
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if text.get(key):
            return _optional(text, key, where) or 0
    return 0


def _tied(config: dict[str, Any], text: dict[str, Any], family: Family) -> bool:
    for source in (text, config):
        if isinstance(source.get("tie_word_embeddings"), bool):
            return bool(source["tie_word_embeddings"])
    return family.tied_by_default


def _window(text: dict[str, Any], where: str) -> int | None:
    return None if text.get("use_sliding_window") is False else _optional(text, "sliding_window", where)
