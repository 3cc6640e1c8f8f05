"""Checkpoints that hold a text model among other parts: which towers each has, one row a `model_type`. Torch-free.

Not here: what a tower is made of (`towers.py`), loading one (`engine.modeling.wrappers`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.models import towers
from engine.models.families import known_family
from engine.models.layers import LayerGroup
from engine.models.numbers import Numbers, refuse
from engine.models.towers import Whole, projector, vision
from engine.text import sanitize

Groups = tuple[LayerGroup, ...]
_TEXT_KEYS = ("text_config", "llm_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """One class of checkpoints."""

    name: str
    """transformers' `model_type` of the whole."""
    text: str
    """That of its text model where the configuration does not say."""
    count: Callable[[Whole], Groups] | None = None
    """Counts its towers; None = they cannot be counted from a configuration."""
    tied: bool = True
    """Whether embedding and output head are one matrix where the configuration of the whole does not say."""
    asks_text: bool = False
    """Whether they also are where that of the text model says so."""
    eyes: Mapping[str, Any] = field(default_factory=dict)
    """What such a tower has other than its class."""


def _gemma3(whole: Whole) -> Groups:
    seen = vision(whole)
    hidden = seen.count("hidden_size", 768)
    return (*towers.siglip(seen), towers.frozen(hidden * (whole.width + 1)))


def _gemma4(whole: Whole) -> Groups:
    found: list[LayerGroup] = []
    if whole.seen:
        found += [*towers.gemma4_eyes(whole.seen), projector(whole.seen.count("hidden_size", 768), whole.width)]
    if whole.heard:
        out = whole.heard.count("output_proj_dims", 1536)
        found += [*towers.gemma4_ears(whole.heard), projector(out, whole.width)]
    return tuple(found)


def _gemma4_unified(whole: Whole) -> Groups:
    """Patches and sound go through linear layers alone."""
    found: list[LayerGroup] = []
    if whole.seen:
        patch = 3 * (whole.seen.count("patch_size", 16) * whole.seen.count("pooling_kernel_size", 3)) ** 2
        width, places = whole.seen.count("mm_embed_dim", 3840), whole.seen.count("mm_posemb_size", 1120)
        patches = projector(patch, width, bias=True, norm=2 * patch + 4 * width)
        step = projector(whole.seen.count("output_proj_dims", 3840), whole.width)
        found += [patches._replace(stacked=2 * places * width), step]
    if whole.heard:
        found += [projector(whole.heard.count("audio_embed_dim", 640), whole.width)]
    return tuple(found)


def _features(whole: Whole, hidden: int) -> int:
    """Features of as many layers of a tower as the projector takes."""
    layers = whole.root.text.get("vision_feature_layer")
    return hidden * (len(layers) if isinstance(layers, list | tuple) else 1)


def _patch_merger(whole: Whole) -> Groups:
    seen = vision(whole)
    hidden = seen.count("hidden_size", 1024)
    merged = hidden * whole.root.count("spatial_merge_size", 2) ** 2
    bias = whole.root.flag("multimodal_projector_bias")
    steps = projector(_features(whole, hidden), whole.width, whole.width, bias=bias, norm=hidden)
    return (*towers.pixtral(seen), projector(merged, hidden), steps)


_TOWERS: dict[str, Callable[[Numbers], Groups]] = {
    "siglip_vision_model": towers.siglip,
    "clip_vision_model": towers.clip,
    "pixtral": towers.pixtral,
}


def _llava(whole: Whole) -> Groups:
    """The tower that the configuration names, two linear layers, and for LLaVA-NeXT a learned end of a line."""
    seen = vision(whole)
    kind = str(seen.text.get("model_type", "clip_vision_model"))
    if kind not in _TOWERS:
        raise uncounted(kind, whole.root.where)
    hidden = _features(whole, seen.count("hidden_size", 768))
    steps = projector(hidden, whole.width, whole.width, bias=whole.root.flag("multimodal_projector_bias", True))
    line = towers.frozen(0 if whole.root.text.get("model_type") in ("llava", "vipllava") else whole.width)
    return (*_TOWERS[kind](seen), steps, line)


def _paligemma(whole: Whole) -> Groups:
    seen = vision(whole)
    hidden = seen.count("hidden_size", 1152)
    out = seen.optional("projection_dim") or whole.root.count("projection_dim", 2048)
    return (*towers.siglip(seen), projector(hidden, out, bias=True))


def _intern(whole: Whole) -> Groups:
    seen, ratio = vision(whole), whole.root.text.get("downsample_ratio", 0.5)
    blocks = round(1 / float(ratio)) if isinstance(ratio, int | float) and ratio else 2
    merged = seen.count("hidden_size", 1024) * blocks**2
    return (*towers.intern(seen), projector(merged, whole.width, whole.width, bias=True, norm=2 * merged))


def _idefics3(whole: Whole) -> Groups:
    seen = vision(whole)
    merged = seen.count("hidden_size", 1152) * whole.root.count("scale_factor", 2) ** 2
    return (*towers.siglip(seen, head=False), projector(merged, whole.width))


def _heard(whole: Whole) -> Numbers:
    return whole.heard or Numbers({}, whole.root.where)


def _voxtral(whole: Whole) -> Groups:
    heard = _heard(whole)
    return (*towers.whisper(heard), projector(heard.count("intermediate_size", 5120), whole.width, whole.width))


def _qwen2_audio(whole: Whole) -> Groups:
    heard = _heard(whole)
    return (*towers.whisper(heard), projector(heard.count("d_model", 1280), whole.width, bias=True))


_CLIP_LARGE = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}
_SIGLIP_SO400M = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
_PALIGEMMA_EYES = {**_SIGLIP_SO400M, "intermediate_size": 4096, "num_hidden_layers": 27, "image_size": 224}
_SMALL_SIGLIP = {"hidden_size": 1152, "patch_size": 32}
_PIXTRAL = {"patch_size": 14}
_GEMMA3 = Wrapper(name="gemma3", text="gemma3_text", count=_gemma3)
_QWEN3_VL = Wrapper(name="qwen3_vl", text="qwen3_vl_text", count=lambda whole: towers.qwen3(vision(whole)), tied=False)
_QWEN35 = replace(
    _QWEN3_VL, name="qwen3_5", text="qwen3_5_text", count=lambda whole: towers.qwen3(vision(whole), deepstack=False)
)
_LLAVA = Wrapper(name="llava", text="llama", count=_llava, tied=False, asks_text=True, eyes=_CLIP_LARGE)

_ROWS = (
    _GEMMA3,
    Wrapper(name="gemma4", text="gemma4_text", count=_gemma4),
    Wrapper(name="gemma4_unified", text="gemma4_unified_text", count=_gemma4_unified),
    Wrapper(name="mistral3", text="mistral", count=_patch_merger, eyes=_PIXTRAL),
    Wrapper(name="lighton_ocr", text="qwen3", count=_patch_merger, eyes=_PIXTRAL),
    Wrapper(
        name="qwen2_vl",
        text="qwen2_vl_text",
        count=lambda whole: towers.qwen2(vision(whole)),
        tied=False,
        asks_text=True,
    ),
    Wrapper(
        name="qwen2_5_vl",
        text="qwen2_5_vl_text",
        count=lambda whole: towers.qwen2_5(vision(whole)),
        tied=False,
        asks_text=True,
    ),
    _QWEN3_VL,
    replace(_QWEN3_VL, name="qwen3_vl_moe", text="qwen3_vl_moe_text"),
    _QWEN35,
    replace(_QWEN35, name="qwen3_5_moe", text="qwen3_5_moe_text"),
    _LLAVA,
    replace(_LLAVA, name="llava_next", asks_text=False),
    replace(_LLAVA, name="llava_onevision", text="qwen2", eyes=_SIGLIP_SO400M),
    Wrapper(name="paligemma", text="gemma", count=_paligemma, eyes=_PALIGEMMA_EYES),
    Wrapper(name="internvl", text="qwen2", count=_intern),
    Wrapper(name="idefics3", text="llama", count=_idefics3, tied=False, eyes=_SMALL_SIGLIP),
    Wrapper(name="smolvlm", text="llama", count=_idefics3, tied=False, eyes=_SMALL_SIGLIP),
    Wrapper(name="voxtral", text="llama", count=_voxtral, tied=False),
    Wrapper(name="qwen2_audio", text="qwen2", count=_qwen2_audio, tied=False),
)
WRAPPERS = {row.name: row for row in _ROWS}
WITHOUT_CLASS = frozenset({"audioflamingo3", "musicflamingo", "vibevoice", "jev"})
"""Hold a text model, and transformers has no class of theirs that writes text."""
SCORING = frozenset({"gemma3", "qwen3_5"})
"""Those of which transformers has a class with a head for scores."""
_TEXT_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3_text": {"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32_000,
    },
    "mistral": {"vocab_size": 32_000, "num_attention_heads": 32, "num_key_value_heads": 8},
    "qwen2": {"vocab_size": 151_936, "num_attention_heads": 32, "num_key_value_heads": 32},
    "qwen2_5_vl_text": {"vocab_size": 152_064, "num_attention_heads": 64, "num_key_value_heads": 8},
}
"""What published configurations leave to the class of their text model."""
_FLAT = frozenset({"qwen2_vl", "qwen2_5_vl"})
"""Published configurations name the text model's sizes beside `vision_config`, not in a part of their own."""


def wrapper_kind(config: dict[str, Any]) -> str:
    """The `model_type` of a checkpoint whose text model is a part; empty for a model of text alone."""
    kind = str(config.get("model_type") or "")
    flat = kind in _FLAT and isinstance(config.get("vision_config"), dict)
    return kind or "unknown" if _nested(config) is not None or flat else ""


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """The part that describes the text model, with what its class fills in; the whole for a model of text alone."""
    kind, nested = wrapper_kind(config), _nested(config)
    if not kind:
        return config
    text = {key: value for key, value in config.items() if key != "model_type"} if nested is None else nested
    row = WRAPPERS.get(kind)
    text = text if text.get("model_type") or row is None else {**text, "model_type": row.text}
    missing = _TEXT_DEFAULTS.get(str(text.get("model_type")), {})
    return {**{key: value for key, value in missing.items() if text.get(key) is None}, **_known(text)}


def _known(text: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in text.items() if value is not None or key not in _SIZES}


_SIZES = frozenset(key for sizes in _TEXT_DEFAULTS.values() for key in sizes)


def _nested(config: dict[str, Any]) -> dict[str, Any] | None:
    found = next((config[key] for key in _TEXT_KEYS if isinstance(config.get(key), dict)), None)
    return found if found is not None and ("hidden_size" in found or config.get("model_type") in WRAPPERS) else None


def is_tied(config: dict[str, Any], default: bool) -> bool:
    """Whether a checkpoint's embedding and output head are one matrix; `default`: where nothing says so."""
    kind, text = wrapper_kind(config), text_part(config)
    row = WRAPPERS.get(kind)
    own, of_text = config.get("tie_word_embeddings"), text.get("tie_word_embeddings")
    if kind and row is not None:
        tied = own if isinstance(own, bool) else row.tied
        return tied or (row.asks_text and (of_text if isinstance(of_text, bool) else default))
    return next((value for value in (own if kind else of_text, of_text) if isinstance(value, bool)), default)


def says_untied(config: dict[str, Any]) -> bool:
    """Whether the text model of a checkpoint is untied by its own class or words, whatever the whole says."""
    text = text_part(config)
    default = known_family(str(text.get("model_type") or ""))
    own = text.get("tie_word_embeddings")
    return bool(wrapper_kind(config)) and not (own if isinstance(own, bool) else default and default.tied_by_default)


def towers_of(config: dict[str, Any], where: str) -> Groups | None:
    """All that a checkpoint loads beside its text model; None where its configuration does not say how much."""
    kind = wrapper_kind(config)
    row = WRAPPERS.get(kind)
    if not kind:
        return ()
    if row is None or row.count is None:
        return None
    seen, heard = (_part(config, key, where) for key in ("vision_config", "audio_config"))
    if row.eyes:
        seen = Numbers({**row.eyes, **(seen.text if seen else {})}, where)
    return tuple(
        group for group in row.count(Whole(Numbers(config, where), Numbers(text_part(config), where), seen, heard))
    )


def _part(config: dict[str, Any], key: str, where: str) -> Numbers | None:
    value = config.get(key)
    return Numbers(value, where) if isinstance(value, dict) else None


def uncounted(kind: str, where: str) -> EngineError:
    """The error for a checkpoint whose towers take memory that cannot be computed."""
    shown = sanitize(kind, max_chars=40, single_line=True)
    hint = "fetch the weight files, which are counted then; 'engine fit DIR --exact' simulates the whole"
    return refuse(f"has towers of '{shown}', which cannot be counted from it", where, hint)


def check_class(config: dict[str, Any], where: str) -> None:
    """Raise EngineError(MODEL) for a checkpoint of which transformers loads no model that writes text."""
    kind = str(config.get("model_type") or "")
    if kind in WITHOUT_CLASS and not config.get("auto_map"):
        raise no_class(kind, "writes text", where)


def scores_texts(kind: str) -> bool:
    """Whether there is a class with a head for scores: for models of text alone, and some others."""
    return not kind or kind in SCORING


def no_class(kind: str, does: str, where: str = "model.name_or_path") -> EngineError:
    """The error for a checkpoint that transformers has no class for; the worker and every check before it use it."""
    return EngineError(
        f"transformers has no class for '{sanitize(kind, max_chars=40, single_line=True)}' that {does}",
        code=ExitCode.MODEL,
        where=where,
        hint="use a text-only model of this family, or a newer transformers that knows this one",
    )
