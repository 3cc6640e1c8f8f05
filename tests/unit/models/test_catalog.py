"""The shipped catalogue: counts, names, no gaps."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from engine.models.catalog import (
    EDITED_PATH,
    catalog_index,
    config_of,
    listing_of,
    shipped_catalog,
    shipped_config,
)
from engine.models.config import spec_from_config
from engine.models.spec import ModelSpec

LISTED = {spec.name: listing_of(spec.name) for spec in shipped_catalog()}
ARCHITECTURES: dict[str, dict[str, Any]] = tomllib.loads(EDITED_PATH.read_text())["architecture"]
MODELS: dict[str, dict[str, Any]] = tomllib.loads(EDITED_PATH.read_text())["models"]


@pytest.mark.parametrize("spec", shipped_catalog(), ids=lambda spec: spec.name)
def test_the_closed_form_gives_the_exact_count(spec: ModelSpec) -> None:
    assert spec.sizes.computed_parameters == spec.parameters


def one_of_each_shape() -> list[str]:
    """The smallest architecture of each family, tied or not, with a window or without."""
    size = {row["architecture"]: row["parameters"] for row in MODELS.values()}
    found: dict[tuple[Any, ...], str] = {}
    for name in sorted(size, key=lambda name: size[name]):
        row = ARCHITECTURES[name]
        found.setdefault((row["family"], row.get("tied"), "window" in row, *sorted(row.get("more", ()))), name)
    return list(found.values())


@pytest.mark.parametrize("name", one_of_each_shape())
def test_the_count_is_that_of_transformers_own_model(name: str) -> None:
    """The rest of the list was counted once in the same way: 20 seconds for all."""
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    config = config_of(ARCHITECTURES[name])
    kind = config.pop("model_type")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, pad_token_id=0, **config))
    (parameters,) = {row["parameters"] for row in MODELS.values() if row["architecture"] == name}
    assert parameters == sum(each.numel() for each in model.parameters())


def test_every_architecture_stands_for_a_model() -> None:
    assert set(ARCHITECTURES) == {row["architecture"] for row in MODELS.values()}


@pytest.mark.parametrize("spec", shipped_catalog(), ids=lambda spec: spec.name)
def test_every_entry_says_what_a_person_chooses_by(spec: ModelSpec) -> None:
    listed = LISTED[spec.name]
    assert listed is not None
    assert re.fullmatch(r"20[12]\d-(0[1-9]|1[0-2])", listed.released)
    assert listed.modality in ("text", "text+image", "text+image+audio")
    assert not spec.traits.refused
    assert spec.licence
    assert spec.use_cases
    assert 0 < spec.quality <= 100
    assert spec.max_position_embeddings >= 2048
    assert spec.num_attention_heads % spec.num_key_value_heads == 0


def test_at_least_120_models_with_distinct_short_names() -> None:
    names = [spec.name.rpartition("/")[2].lower() for spec in shipped_catalog()]
    assert len(names) >= 220
    assert len(set(names)) == len(names)
    assert catalog_index()["qwen3-8b"].name == "Qwen/Qwen3-8B"


def test_larger_models_of_one_generation_rank_higher() -> None:
    """`quality` orders by size within a generation and kind; no benchmark stands behind it."""
    lines: dict[tuple[str, tuple[str, ...]], list[ModelSpec]] = {}
    for spec in shipped_catalog():
        generation = re.split(r"-\d+(\.\d+)?[bm](?![a-z])", spec.name, maxsplit=1, flags=re.IGNORECASE)[0]
        lines.setdefault((generation, spec.use_cases), []).append(spec)
    for specs in lines.values():
        dense = sorted((spec for spec in specs if not spec.num_experts), key=lambda spec: spec.sizes.total_parameters)
        assert [spec.quality for spec in dense] == sorted(spec.quality for spec in dense), [spec.name for spec in dense]


def test_head_dim_apart_from_hidden_size() -> None:
    qwen = catalog_index()["qwen3-0.6b"]
    assert qwen.sizes.linear_shapes["q_proj"] == (1024, 2048)
    assert qwen.sizes.linear_shapes["o_proj"] == (2048, 1024)


def test_fused_projections_keep_the_count() -> None:
    assert catalog_index()["phi-4"].sizes.linear_shapes == {
        "qkv_proj": (5120, 7680),
        "o_proj": (5120, 5120),
        "gate_up_proj": (5120, 35840),
        "down_proj": (17920, 5120),
    }


def test_a_mixture_of_experts_has_few_active_parameters_and_no_linear_experts() -> None:
    spec = catalog_index()["qwen3-30b-a3b"]
    assert spec.sizes.active_parameters == pytest.approx(3.04e9, rel=0.02)
    assert set(spec.sizes.linear_shapes) == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_most_models_name_the_source_their_numbers_were_checked_against() -> None:
    unchecked = {name for name, listed in LISTED.items() if listed and not listed.checked}
    assert len(unchecked) <= 1
    listed = listing_of("Qwen/Qwen3-8B")
    assert listed is not None
    assert (listed.checked, listed.released, listed.modality) == ("litgpt", "2025-04", "text")
    assert listing_of("no/such-model") is None


def test_a_window_shorter_than_the_context_is_told() -> None:
    assert catalog_index()["phi-3-mini-4k-instruct"].sliding_window == 2047
    assert catalog_index()["phi-3-medium-4k-instruct"].sliding_window == 2047
    assert catalog_index()["phi-3.5-mini-instruct"].sliding_window == 262144


@pytest.mark.parametrize(
    ("name", "loaded"),
    [
        ("gemma-3-4b-it", 4_300_079_472),
        ("gemma-3-27b-pt", 27_432_406_640),
        # The files hold 2,364 values more: buffers.
        ("gemma-4-31B-it", 31_273_086_512),
        ("Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("Qwen3-VL-8B-Thinking", 8_767_123_696),
        ("Mistral-Small-3.2-24B-Instruct-2506", 24_011_361_280),
    ],
)
def test_a_listed_model_that_also_sees_is_counted_with_its_tower(name: str, loaded: int) -> None:
    assert catalog_index()[name.lower()].sizes.loaded_parameters == loaded


def test_every_listed_model_that_also_sees_has_a_tower_and_a_configuration() -> None:
    seeing = {name for name, listed in LISTED.items() if listed and listed.modality != "text"}
    # transformers loads the text side of Qwen3.5 alone.
    alone = {spec.name for spec in shipped_catalog() if spec.family.startswith("qwen3_5")}
    assert seeing - alone == {spec.name for spec in shipped_catalog() if spec.tower_groups}
    for spec in shipped_catalog():
        if spec.wrapper:
            found = spec_from_config(shipped_config(spec), spec.name, "list", source="catalogue", path=None)
            assert (found.wrapper, found.sizes.computed_parameters) == (spec.wrapper, spec.sizes.computed_parameters)
            assert found.tower_groups == spec.tower_groups
