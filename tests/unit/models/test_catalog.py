"""The shipped catalogue: counts, names, no gaps."""

from __future__ import annotations

import pytest

from engine.models.catalog import catalog_index, checked_against, shipped_catalog
from engine.models.spec import ModelSpec


@pytest.mark.parametrize("spec", shipped_catalog(), ids=lambda spec: spec.name)
def test_computed_parameters_match_the_published_count(spec: ModelSpec) -> None:
    assert spec.parameters is not None
    assert spec.sizes.computed_parameters == pytest.approx(spec.parameters, rel=0.005)


@pytest.mark.parametrize("spec", shipped_catalog(), ids=lambda spec: spec.name)
def test_every_entry_says_what_a_person_chooses_by(spec: ModelSpec) -> None:
    assert spec.traits.checked
    assert spec.licence
    assert spec.use_cases
    assert 0 < spec.quality <= 100
    assert spec.max_position_embeddings >= 2048
    assert spec.num_attention_heads % spec.num_key_value_heads == 0


def test_at_least_sixty_models_with_distinct_short_names() -> None:
    names = [spec.name.rpartition("/")[2].lower() for spec in shipped_catalog()]
    assert len(names) >= 60
    assert len(set(names)) == len(names)
    assert catalog_index()["qwen3-8b"].name == "Qwen/Qwen3-8B"


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
    unchecked = {spec.name.rpartition("/")[2] for spec in shipped_catalog() if not checked_against(spec.name)}
    assert len(unchecked) <= 7
    assert checked_against("Qwen/Qwen3-8B") == "litgpt"
    assert checked_against("no/such-model") == ""


def test_a_window_shorter_than_the_context_is_told() -> None:
    assert catalog_index()["phi-3-mini-4k-instruct"].sliding_window == 2047
    assert catalog_index()["phi-3-medium-4k-instruct"].sliding_window == 2047
    assert catalog_index()["phi-3.5-mini-instruct"].sliding_window == 262144
