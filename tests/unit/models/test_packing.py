"""Whether documents share rows, as the plan says it: fit, check and a run give the same answer with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ExitCode
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models import packing
from engine.models.packing import alone_reason
from engine.models.resolve import resolve_model
from engine.resolve.check import examine
from engine.resolve.resolve import plan_to_profile, resolve_profile
from tests.unit.profile_machines import DATA, cpu_machine, gpu_machine, load

__all__ = ["cpu_machine", "gpu_machine", "load"]
CONFIG: dict[str, Any] = {
    "model_type": "qwen3_5_text",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 512,
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of modules that can be imported; none at first."""
    names: set[str] = set()
    monkeypatch.setattr(packing, "is_installed", names.__contains__)
    return names


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "model"


def test_the_reason_names_what_is_missing(installed: set[str], model: Path) -> None:
    hybrid = resolve_model(str(model))
    assert alone_reason(resolve_model("demo"), "cuda") == ""
    assert alone_reason(hybrid, "cuda").startswith("flash-linear-attention and causal-conv1d are not installed")
    installed.add("fla")
    assert alone_reason(hybrid, "cuda").startswith("causal-conv1d is not installed")
    installed.add("causal_conv1d")
    assert alone_reason(hybrid, "cuda") == ""
    assert "on GPUs alone" in alone_reason(hybrid, "cpu")


def test_fit_tells_how_it_trains_and_what_is_counted(installed: set[str], model: Path) -> None:
    spec = resolve_model(str(model))
    notes = estimate_memory(spec, TrainingShape()).notes
    assert any(note.startswith("one document a row") and "flash-linear-attention" in note for note in notes)
    assert any("counted as plain operators" in note for note in notes)
    installed |= {"fla", "causal_conv1d"}
    assert not any(note.startswith("one document") for note in estimate_memory(spec, TrainingShape()).notes)


def test_check_warns_before_the_run(installed: set[str], model: Path, load: Any, gpu_machine: Any) -> None:
    text = f'[model]\nname_or_path = "{model}"\nmax_length = 128\n{DATA}'
    [warning] = [item.problem for item in examine(load(text), gpu_machine).warnings if "one document" in str(item)]
    assert warning.key == "data.packing"
    assert "pip install flash-linear-attention causal-conv1d" in warning.hint
    assert not examine(load(text), gpu_machine).problems
    installed |= {"fla", "causal_conv1d"}
    assert not [item for item in examine(load(text), gpu_machine).warnings if "one document" in str(item)]


def test_the_plan_decides_and_a_person_may_overrule_it(
    installed: set[str], model: Path, load: Any, gpu_machine: Any
) -> None:
    text = f'[model]\nname_or_path = "{model}"\nmax_length = 128\n{DATA}'
    resolved = resolve_profile(load(text), gpu_machine)
    assert resolved.settings.data.packing is False
    assert "flash-linear-attention" in resolved.provenance["data.packing"]["reason"]
    assert resolve_profile(load(text, "data.packing=true"), gpu_machine).settings.data.packing is True
    assert "packing" not in plan_to_profile(resolved.plan, "rows.jsonl")["data"], "a new profile is not pinned to it"
    installed |= {"fla", "causal_conv1d"}
    assert resolve_profile(load(text), gpu_machine).settings.data.packing is True


def test_answers_side_by_side_are_refused_before_the_run(model: Path, load: Any, cpu_machine: Any) -> None:
    text = f'[model]\nname_or_path = "{model}"\nmax_length = 128\n{DATA}[train]\nobjective = "dpo"\n'
    [problem] = [item for item in examine(load(text), cpu_machine).problems if item.problem.key == "train.objective"]
    assert problem.code is ExitCode.MODEL
    assert "side by side" in problem.problem.message
    assert "'sft'" in problem.problem.hint
