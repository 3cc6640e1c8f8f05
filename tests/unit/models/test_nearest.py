"""Names that are not known: one answer that helps, with models that can be trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError, ExitCode
from engine.models.catalog import catalog_index, refused_names
from engine.models.config import spec_from_config
from engine.models.nearest import instead_of, why_refused
from engine.models.resolve import resolve_model


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def answer(name: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        resolve_model(name)
    assert caught.value.code is ExitCode.MODEL
    return caught.value


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("allenai/Olmo-Hybrid-7B", "allenai/Olmo-3-7B-Instruct"),
        ("olmo-hybrid-7b-base", "allenai/Olmo-3-1025-7B"),
    ],
)
def test_a_model_that_cannot_be_trained_names_the_nearest_that_can(name: str, first: str) -> None:
    error = answer(name)
    assert "cannot be trained here" in error.message
    assert error.hint.startswith(f"train {first} or ")
    assert "hf download" not in error.hint, "fetching it would end in the next refusal"
    for other in instead_of(name):
        assert resolve_model(other).name == other


def test_a_maker_of_which_none_is_listed_gets_models_of_that_size() -> None:
    sizes = [resolve_model(name).sizes.total_parameters for name in instead_of("LiquidAI/LFM2-1.2B")]
    assert len(sizes) == 3
    assert all(0.7e9 < size < 2e9 for size in sizes)


def test_without_a_maker_or_a_size_to_go_by_the_list_is_named() -> None:
    assert answer("moonshotai/Kimi-Linear-Instruct").hint == "see 'engine models list' for others"


def test_other_names_keep_the_way_to_fetch_them() -> None:
    assert why_refused("someone/qwen3-finetune") == ""
    assert "hf download someone/new-model" in answer("someone/new-model").hint
    assert "did you mean Qwen/Qwen3.5-9B or Qwen/Qwen3-8B or " in answer("Qwen/Qwen3-9B").hint


def test_no_listed_model_is_refused_by_name() -> None:
    assert not [name for name in catalog_index() if why_refused(name)]


@pytest.mark.parametrize(("start", "kind"), [(start, kind) for start, (kind, _) in refused_names().items()])
def test_a_refused_name_has_a_family_that_is_refused(start: str, kind: str) -> None:
    """Whoever teaches the trainer such a family takes its names off the list."""
    pytest.importorskip("torch")
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind).to_dict()
    with pytest.raises(EngineError):
        spec_from_config(config, start, "config.json", source="directory", path=None)
