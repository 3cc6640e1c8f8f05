"""The simulated answer: what is handed to the simulation, what is refused, what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.fit import fit
from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Gpu
from engine.memory.exact import exact_memory
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.resolve import resolve_model

pytestmark = pytest.mark.usefixtures("warm_workers")
_A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
_TINY = {
    "model_type": "hyperclovax",
    "architectures": ["HyperCLOVAXForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
}


def test_processors_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(EngineError) as caught:
        exact_memory(resolve_model("demo"), TrainingShape(device="cpu"), _A100)
    assert caught.value.code is ExitCode.RESOURCES


def test_the_whole_shape_reaches_the_simulation() -> None:
    spec = resolve_model("demo")
    small = TrainingShape(
        micro_batch=2, max_length=256, lora_r=8, lora_targets=("q_proj", "v_proj"), optimizer="adamw_torch"
    )
    found = exact_memory(spec, small, _A100)
    assert found.allocated_bytes == pytest.approx(estimate_memory(spec, small, gpu=_A100).allocated_bytes, rel=0.02)
    larger = exact_memory(spec, replace(small, checkpoint_every=0), _A100)
    assert larger.allocated_bytes > found.allocated_bytes


def test_a_family_that_the_closed_form_does_not_know_is_simulated(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_TINY))
    result = CliRunner().invoke(
        fit, [str(tmp_path), "--gpu", "A100-SXM4-80GB", "--context", "256", "--exact", "--json"]
    )
    assert result.exit_code == 0, result.exception
    model = json.loads(result.stdout)["models"][0]
    assert any("--exact" in note for note in model["notes"])
    assert model["exact"]["device_bytes"] > model["exact"]["reserved_bytes"] > model["exact"]["allocated_bytes"] > 0
    assert model["verdict"] == "OK"
    assert (model["terms"], model["parameters"]["total"], model["tokens_per_second"]) == ({}, None, None)
    assert model["device_bytes"] == model["exact"]["device_bytes"]


def test_only_simulated_figures_of_such_a_family_are_printed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_TINY))
    result = CliRunner().invoke(fit, [str(tmp_path), "--gpu", "A100-SXM4-80GB", "--context", "256", "--exact"])
    assert result.exit_code == 0, result.exception
    assert "simulated" in result.stdout
    assert "only --exact" in " ".join(result.stdout.split())
    assert not [words for words in ("at its peak", "tokens/s", "parameters") if words in result.stdout]


def test_an_architecture_that_nothing_knows_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**_TINY, "model_type": "from_tomorrow"}))
    result = CliRunner().invoke(fit, [str(tmp_path), "--gpu", "A100-SXM4-80GB", "--exact"])
    assert isinstance(result.exception, EngineError)
    assert result.exception.code is ExitCode.MODEL
    assert "from_tomorrow" in str(result.exception)


def test_exact_needs_a_model() -> None:
    assert CliRunner().invoke(fit, ["--exact"]).exit_code == 2
