"""The list of known models: the shipped one, and behind it a person's own.

`catalog.toml` is edited by hand; `python -m bench.pages` makes two files of it, because reading the list is on the path
of a cold `engine fit`: `listed.py` has each model as its `ModelSpec`, `catalog.json` what else is known. Not here:
models on disk, names that resemble others (`nearest.py`), what can be done with a model (`abilities.py`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.models.config import spec_from_config
from engine.models.families import family_of
from engine.models.spec import ModelSpec
from engine.models.user_catalog import read_user_catalog, unusable_entries
from engine.models.wrapper_rows import WRAPPERS, towers_of

CATALOG_PATH = Path(__file__).with_name("catalog.json")
EDITED_PATH = CATALOG_PATH.with_suffix(".toml")
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)
_KEYS = {"tied": "tie_word_embeddings", "window": "sliding_window"}


@dataclass(frozen=True, slots=True)
class Listing:
    """What the shipped list says of a model beside its numbers."""

    released: str
    """Year and month, `2025-08`."""
    modality: str = "text"
    """What the checkpoint takes: `text`, or `text+image` and `text+image+audio` where only its text part is tuned."""
    checked: str = ""
    """Public sources which its dimensions were compared with; empty for none."""


@lru_cache(maxsize=1)
def load_catalog() -> tuple[ModelSpec, ...]:
    """Every known model: the shipped ones in the order of the file, then a person's own.

    An own model of a shipped name stands in its place. A damaged file of own models counts as empty here, and a model
    of a family that is of no use is left out; whoever shows the list tells of it with `catalog_problem`.
    """
    merged = {spec.name.lower(): spec for spec in shipped_catalog()}
    with suppress(EngineError):
        merged.update((spec.name.lower(), spec) for spec in read_user_catalog())
    return tuple(merged.values())


def catalog_problem() -> EngineError | None:
    """Why a person's own models, or some of them, are missing from `load_catalog`; or None."""
    try:
        return unusable_entries()
    except EngineError as error:
        return error


@lru_cache(maxsize=1)
def shipped_catalog() -> tuple[ModelSpec, ...]:
    """Every shipped model, in the order of the file."""
    from engine.models.listed import MODELS

    return MODELS


def specs_of(tables: dict[str, Any]) -> tuple[ModelSpec, ...]:
    """The models of the list's `tables`, worked out anew."""
    counted = {name: _architecture(name, row) for name, row in tables["architecture"].items()}
    return tuple(_spec(name, row, counted[row["architecture"]], tables) for name, row in tables["models"].items())


def shipped_config(spec: ModelSpec) -> dict[str, Any]:
    """The config.json that a shipped model stands for; EngineError(MODEL) for a model that is not shipped."""
    row = _shipped()["models"].get(spec.name)
    if row is None:
        hint = "give the directory with its config.json"
        raise EngineError(
            "the model's parts are not known by its name", code=ExitCode.MODEL, where=spec.name, hint=hint
        )
    text = config_of(_shipped()["architecture"][row["architecture"]])
    beside = _beside(spec.name, _shipped())
    return wrapped(text, beside) if beside else text


def _beside(name: str, tables: dict[str, Any]) -> dict[str, Any] | None:
    """The row of the towers that are loaded with the shipped model `name`; None for a model of text alone."""
    rows = tables["towers"].values()
    return next((row for row in rows if name.startswith(tuple(row["of"]))), None)


def wrapped(text: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a checkpoint that also sees, around that of its text model."""
    vision = row["vision"] | ({row["out"]: text["hidden_size"]} if "out" in row else {})
    own = WRAPPERS[row["wrapper"]].text
    kind = own if family_of(own).name == text["model_type"] else text["model_type"]
    return {
        "model_type": row["wrapper"],
        "tie_word_embeddings": bool(text.get("tie_word_embeddings", False)),
        "text_config": {**text, **row.get("text", {}), "model_type": kind},
        "vision_config": vision,
        **({"audio_config": row["audio"]} if "audio" in row else {}),
    }


def listing_of(name: str) -> Listing | None:
    """What the shipped list says of the model `name` beside its numbers; None for any other model."""
    catalog = _shipped()
    row = catalog["models"].get(name)
    if row is None:
        return None
    checked = catalog["architecture"][row["architecture"]].get("checked", "")
    return Listing(released=row["released"], modality=row.get("modality", "text"), checked=checked)


def refused_names() -> dict[str, tuple[str, str]]:
    """Beginning of a name, lower case, to the model_type it stands for and what the trainer lacks for it."""
    return {start: (kind, lacks) for start, (kind, lacks) in _shipped()["refused"].items()}


def forget_catalog() -> None:
    """Read the files again at the next call."""
    for function in (load_catalog, shipped_catalog, catalog_index, _shipped):
        function.cache_clear()


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(CATALOG_PATH.read_text(encoding="utf-8"))
    return found


@lru_cache(maxsize=1)
def catalog_index() -> dict[str, ModelSpec]:
    """Lower-case hub id, and id without its owner, to model."""
    index: dict[str, ModelSpec] = {}
    for spec in load_catalog():
        index[spec.name.lower()] = spec
        index.setdefault(spec.name.rpartition("/")[2].lower(), spec)
    return index


def config_of(row: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json that an architecture of the list stands for."""
    config = {"model_type": row["family"], **dict(zip(_SIZES, row["sizes"], strict=True))}
    config |= {key: row[short] for short, key in _KEYS.items() if short in row}
    if "experts" in row:
        count, active = row["experts"]
        config |= {"num_experts": count, "num_local_experts": count, "num_experts_per_tok": active}
        config["moe_intermediate_size"] = config["intermediate_size"]
    if "full_every" in row or "kind" in row:
        config["layer_types"] = _kinds(config["num_hidden_layers"], row.get("full_every", 0), row.get("kind", ""))
    more: dict[str, Any] = row.get("more", {})
    return config | {key: None if value == "null" else value for key, value in more.items()}


def _kinds(layers: int, full_every: int, kind: str) -> list[str]:
    """`layer_types`: each `full_every`th attends to all tokens and the others to a window, or all are of one kind."""
    if kind:
        return [kind] * layers
    return ["sliding_attention" if number % full_every else "full_attention" for number in range(1, layers + 1)]


def _architecture(name: str, row: dict[str, Any]) -> ModelSpec:
    return spec_from_config(config_of(row), name, EDITED_PATH.name, source="catalogue", path=None)


def _spec(name: str, row: dict[str, Any], counted: ModelSpec, tables: dict[str, Any]) -> ModelSpec:
    beside = _beside(name, tables)
    text = tables["architecture"][row["architecture"]]
    found = _with_towers(counted, config_of(text), beside) if beside else counted
    return replace(
        found,
        name=name,
        max_position_embeddings=row["context"],
        parameters=row["parameters"],
        stored=row.get("stored", ""),
        weights_dtype=row.get("stored", counted.weights_dtype),
        licence=row["licence"],
        gated=row.get("gated", False),
        use_cases=tuple(row["use_cases"]),
        quality=row["quality"],
    )


def _with_towers(counted: ModelSpec, text: dict[str, Any], beside: dict[str, Any]) -> ModelSpec:
    groups = towers_of(wrapped(text, beside), EDITED_PATH.name)
    return replace(counted, wrapper=beside["wrapper"], tower_groups=groups or ())
