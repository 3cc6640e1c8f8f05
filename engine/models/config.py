"""A model's config.json as a `ModelSpec`.

Not here: which families and keys are known (`known.py`), finding the directory, counting parameters in the weight files
(`safetensors.py`). Everything read is untrusted: types and ranges are checked before use.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.models.family import Family
from engine.models.known import check_family, refused_family
from engine.models.layers import LayerGroup, Layout
from engine.models.numbers import Numbers
from engine.models.numbers import refuse as _refuse
from engine.models.spec import ModelSpec
from engine.models.stored import stored_format
from engine.models.wrapper_rows import check_class, is_tied, text_part, towers_of, uncounted, wrapper_kind
from engine.text import sanitize

_CAP = "final_logit_softcapping"
MAX_CONFIG_BYTES = 4 * 1024**2
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


def spec_from_config(
    config: dict[str, Any],
    name: str,
    where: str,
    *,
    source: str,
    path: str | None,
    simulated: bool = False,
    stored_towers: tuple[LayerGroup, ...] | None = None,
) -> ModelSpec:
    """Numbers of a decoder-only model; EngineError(MODEL) for what this trainer cannot tune.

    `simulated`: also a family that the closed form does not know; its numbers are good for the simulation only.
    `stored_towers`: towers as the weight files hold them, for a configuration that does not say how large they are.
    """
    _check_kind(config, where)
    check_class(config, where)
    text = text_part(config)
    model_type = str(text.get("model_type") or config.get("model_type") or "unknown")
    family = check_family(text, model_type, where, simulated=simulated)
    counted = not simulated or _is_counted(text, model_type, where)
    if family.refused:
        raise refused_family(family, model_type, _parameters(config, text, family, where), where)
    stored = stored_format(config, family.name, where)
    found = _spec(config, text, family, where)
    towers = _towers(config, where, simulated=simulated, stored=stored_towers)
    counted = counted and towers is not None
    shown = sanitize(model_type, max_chars=40, single_line=True)
    return replace(
        found,
        name=sanitize(name, single_line=True),
        family=shown,
        wrapper=sanitize(wrapper_kind(config), max_chars=40, single_line=True),
        tower_groups=towers or (),
        counted=counted,
        stored=stored,
        source=source,
        path=path,
    )


def _towers(
    config: dict[str, Any], where: str, *, simulated: bool, stored: tuple[LayerGroup, ...] | None
) -> tuple[LayerGroup, ...] | None:
    """What lies beside the text model; None where it is known to the simulation alone."""
    found = towers_of(config, where)
    found = stored if found is None else found
    if found is None and not simulated:
        raise uncounted(wrapper_kind(config), where)
    return found


def _is_counted(text: dict[str, Any], model_type: str, where: str) -> bool:
    try:
        check_family(text, model_type, where, simulated=False)
    except EngineError:
        return False
    return True


def _parameters(config: dict[str, Any], text: dict[str, Any], family: Family, where: str) -> int | None:
    """What a model of a refused family holds; None where the configuration does not say enough."""
    if family.layout is None:
        return None
    try:
        return _spec(config, text, family, where).sizes.computed_parameters
    except EngineError:
        return None


def _spec(config: dict[str, Any], text: dict[str, Any], family: Family, where: str) -> ModelSpec:
    numbers = Numbers({**text, "model_type": family.name}, where)
    heads, hidden = numbers.whole("num_attention_heads"), numbers.whole("hidden_size")
    layout = family.layout(numbers) if family.layout else Layout(())
    return ModelSpec(
        name="",
        family=family.name,
        hidden_size=hidden,
        intermediate_size=layout.intermediate_size or _inner_size(numbers),
        num_hidden_layers=sum(group.layers for group in layout.groups) or numbers.layers,
        num_attention_heads=heads,
        num_key_value_heads=numbers.optional("num_key_value_heads") or heads,
        head_dim=layout.head_dim or numbers.optional("head_dim") or max(1, hidden // heads),
        vocab_size=numbers.whole("vocab_size"),
        max_position_embeddings=numbers.optional("max_position_embeddings") or 2048,
        tie_word_embeddings=is_tied(config, family.tied_by_default),
        attention_bias=numbers.flag("attention_bias", family.attention_bias)
        if family.reads_attention_bias
        else family.attention_bias,
        mlp_bias=family.reads_mlp_bias and numbers.flag("mlp_bias"),
        gated_mlp=family.gated_mlp,
        fused_projections=family.fused_projections,
        sliding_window=_window(numbers),
        caps_logits=bool(text[_CAP]) if _CAP in text else None,
        num_experts=layout.num_experts or (0 if family.layout else numbers.experts),
        num_experts_per_token=layout.num_experts_per_token or numbers.count("num_experts_per_tok"),
        shared_intermediate_size=layout.shared_intermediate_size,
        layer_groups=layout.groups,
        other_parameters=layout.other_parameters,
        weights_dtype=sanitize(str(text.get("dtype") or text.get("torch_dtype") or "bfloat16"), max_chars=20),
    )


def _check_kind(config: dict[str, Any], where: str) -> None:
    kind = sanitize(str(config.get("model_type", "unknown")), max_chars=60, single_line=True)
    if config.get("is_encoder_decoder"):
        raise _refuse(f"describes an encoder-decoder ('{kind}')", where, "use a decoder-only model such as Qwen3-0.6B")
    if kind in _NOT_CAUSAL:
        raise _refuse(f"describes '{kind}', which generates no text", where, "use a decoder-only language model")


def _inner_size(numbers: Numbers) -> int:
    found = numbers.optional("moe_intermediate_size") if numbers.experts else None
    return found or numbers.whole("intermediate_size")


def _window(numbers: Numbers) -> int | None:
    if numbers.text.get("use_sliding_window") is False:
        return None
    return numbers.count("sliding_window") or None
