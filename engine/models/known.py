"""Which families and configuration keys the closed form knows; the words for those that it does not.

A wrong number is worse than none: what changes a model's arithmetic and is not in its family's row is refused. Not
here: the rows (`families.py`), reading the numbers (`config.py`).
"""

from __future__ import annotations

from typing import Any

from engine.errors import EngineError
from engine.models.families import family_of, known_family, nearest_family
from engine.models.family import Family
from engine.models.numbers import EXPERT_KEYS, refuse
from engine.text import format_count, sanitize

_USUAL_ACTIVATIONS = frozenset(
    {"silu", "swish", "swiglu", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu"}
)
_KEYS = {
    "altup_*": "several streams",
    "attention_k_eq_v": "values that are keys",
    "attention_out_bias": "biases of the output projection",
    "attn_layer_period": "layers of several kinds",
    "clip_qkv": "clipped queries, keys and values",
    "conv_*": "short convolutions",
    "decoder_sparse_step": "experts in some layers",
    "enable_moe_block": "experts beside the dense part",
    "first_k_dense_replace": "dense layers before those with experts",
    "hidden_size_per_layer_input": "embeddings for each layer",
    "hybrid_override_pattern": "layers of several kinds",
    "kv_lora_rank": "latent attention",
    "laurel_rank": "low-rank paths beside attention",
    "layers_block_type": "layers of several kinds",
    "linear_*": "linear attention",
    "lm_head_bias": "biases of the output head",
    "mamba_*": "state-space layers",
    "mlp_only_layers": "experts in some layers",
    "moe_latent_size": "experts behind narrower projections",
    "moe_layer_freq": "experts in some layers",
    "n_shared_experts": "experts that every token meets",
    "num_attention_heads_per_layer": "layers with unequal heads",
    "num_kv_shared_layers": "layers that share keys and values",
    "num_shared_experts": "experts that every token meets",
    "per_layer_config": "layers with unequal heads",
    "qk_layernorm": "norms of queries and keys",
    "qk_norm": "norms of queries and keys",
    "shared_expert_intermediate_size": "an expert that every token meets",
    "shared_intermediate_size": "an expert that every token meets",
    "ssm_*": "state-space layers",
    "state_size": "state-space layers",
    "use_bias": "biases of all projections",
    "use_double_wide_mlp": "layers of several widths",
    "use_parallel_residual": "attention beside the feed-forward part",
    "use_qk_norm": "norms of queries and keys",
}
"""Keys that change how a model is counted, and what they stand for."""
_HARMLESS = {"decoder_sparse_step": 1, "moe_layer_freq": 1}
_UNSEEN = frozenset({"state-space layers", "latent attention", "linear attention", "short convolutions"})
"""What the trainer itself does not know, so that simulating it is of no use."""
_SIMULATE = "'engine fit DIR --exact' simulates what transformers can build"


def check_family(text: dict[str, Any], model_type: str, where: str, *, simulated: bool) -> Family:
    """The row of a text model; EngineError(MODEL) for one that the closed form would count wrong.

    `simulated`: an unknown family passes, and keys that only the count would miss. A family that is known and refused
    is returned as it is: whoever counts the model says so with `refused_family`.
    """
    row = known_family(model_type)
    if row is None and not simulated:
        raise _unknown(model_type, where)
    family = row or family_of(model_type)
    if family.refused:
        return family
    _check_layers(text, family, where)
    found = _unread(text, family)
    found = {key: what for key, what in found.items() if what in _UNSEEN} if simulated else found
    if found:
        words = ", ".join(f"{what} ({key})" for key, what in sorted(found.items()))
        hint = "use a model without" if _UNSEEN & set(found.values()) else _SIMULATE
        raise refuse(f"has {words}, which the family '{family.name}' is not known for", where, hint)
    if not simulated:
        _check_activation(text, family, where)
    return family


def _unknown(model_type: str, where: str) -> EngineError:
    shown = sanitize(model_type, max_chars=40, single_line=True)
    near = nearest_family(model_type)
    hint = f"{_SIMULATE}; the nearest known family is '{near}'" if near else _SIMULATE
    return refuse(f"is of a family that is not known here, '{shown}', so its memory cannot be computed", where, hint)


def refused_family(family: Family, model_type: str, parameters: int | None, where: str) -> EngineError:
    """The error for a family that cannot be trained, with the model's size where it was counted."""
    shown = sanitize(model_type, max_chars=40, single_line=True)
    size = f" ({format_count(parameters)} parameters)" if parameters else ""
    hint = "use another family: 'engine models list' shows models of those that can"
    return refuse(f"is of family '{shown}'{size}, which cannot be trained here: {family.refused}", where, hint)


def _check_layers(text: dict[str, Any], family: Family, where: str) -> None:
    kinds = text.get("layer_types")
    other = (
        {sanitize(str(kind), max_chars=40, single_line=True) for kind in kinds if str(kind) not in family.layer_kinds}
        if isinstance(kinds, list)
        else set()
    )
    if other:
        names = ", ".join(sorted(other))
        raise refuse(f"has {names} layers, which this trainer does not know", where, "use a Llama-like model")


def _unread(text: dict[str, Any], family: Family) -> dict[str, str]:
    """Keys with a meaning that the family's row does not take into account."""
    found = {}
    for key, value in text.items():
        what = _KEYS.get(key) or next(
            (words for name, words in _KEYS.items() if name[-1] == "*" and key.startswith(name[:-1])), ""
        )
        if key in EXPERT_KEYS and not family.mixes_experts:
            what = "experts"
        if what and value and value != _HARMLESS.get(key) and not _is_read(key, family):
            found[sanitize(key, max_chars=40, single_line=True)] = what
    return found


def _is_read(key: str, family: Family) -> bool:
    return key in family.reads or any(name[-1] == "*" and key.startswith(name[:-1]) for name in family.reads)


def _check_activation(text: dict[str, Any], family: Family, where: str) -> None:
    for key in ("hidden_act", "hidden_activation", "mlp_hidden_act", "activation_function"):
        value = text.get(key)
        usual = {family.activation} if family.activation else _USUAL_ACTIVATIONS
        if value is not None and value not in usual:
            shown = sanitize(repr(value), max_chars=40, single_line=True)
            raise refuse(f"has {key} = {shown}, which the family '{family.name}' is not known for", where, _SIMULATE)
