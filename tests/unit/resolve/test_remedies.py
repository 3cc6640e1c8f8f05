"""Ways on from a failure: they fit by prediction, keep the batch, and say whether the checkpoint still counts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine.api import fit
from engine.profile.load import load_text
from engine.resolve import remedies as module
from engine.resolve.remedies import Failure, apply_remedy, changed_text, failure_of, remedies
from engine.resolve.resolve import resolve_profile
from engine.runs.events import read_events
from engine.runs.launch import resume_run
from engine.runs.store import Run, create_run
from engine.text import format_bytes

PROFILE = """\
# a comment of mine
[model]
name_or_path = "Qwen/Qwen2.5-7B-Instruct"
max_length = 4096

[quantization]
method = "none"

[[data.datasets]]
path = "rows.jsonl"

[train]
total_batch_size = 16
activation_checkpointing = false
"""
OOM = {"code": "resources", "cause": "out_of_memory", "message": "CUDA out of memory"}


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Any]:
    """A run on an A100 with a checkpoint."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    machine = fit.hypothetical_machine("A100 80GB")
    resolved = resolve_profile(load_text(PROFILE, tmp_path / "p.toml"), machine)
    run = create_run("p", resolved.to_run_json(), PROFILE)
    folder = run.path / "checkpoints" / "step-10"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return run, machine


def _failure(run: Run, error: dict[str, Any], limit: float | None = None) -> Failure:
    return failure_of(run, error, limit)


def test_out_of_memory_is_answered_by_less_than_there_was(failed: tuple[Run, Any]) -> None:
    run, machine = failed
    predicted = json.loads((run.path / "run.json").read_text())["estimate"]["device_bytes"]
    limit = int(predicted * 0.9)
    failure = _failure(run, OOM, limit)
    found = remedies(failure, machine)
    assert found[0].label == "checkpointing on"
    assert found[0].resumes
    assert found[-1].label == "nothing changed"
    priced = [remedy for remedy in found if remedy.changes]
    assert len(priced) >= 2
    assert all(remedy.device_bytes is not None and remedy.device_bytes <= limit for remedy in priced), [
        (remedy.label, format_bytes(remedy.device_bytes)) for remedy in priced
    ]
    other = next(remedy for remedy in priced if not remedy.resumes)
    assert {"model.max_length", "quantization.method"} & set(other.changes)
    batch = failure.setting("train.per_device_train_batch_size") * failure.setting("train.gradient_accumulation_steps")
    for remedy in priced:
        train = tomllib.loads(changed_text(failure, remedy.changes))["train"]
        assert train["per_device_train_batch_size"] * train["gradient_accumulation_steps"] == batch
        assert "total_batch_size" not in train
    assert "# a comment of mine" in changed_text(failure, other.changes)


def test_nothing_that_was_predicted_to_take_as_much_is_offered(failed: tuple[Run, Any]) -> None:
    run, machine = failed
    priced = [item for item in remedies(_failure(run, OOM, 1), machine) if item.changes]
    assert priced == []


def test_a_loss_that_is_no_number_gets_a_lower_rate_in_a_new_run(failed: tuple[Run, Any]) -> None:
    run, machine = failed
    found = remedies(_failure(run, {"code": "diverged", "message": "loss is not a finite number"}), machine)
    assert found[0].changes["train.learning_rate"] == pytest.approx(
        _failure(run, {}).setting("train.learning_rate") / 3, rel=0.05
    )
    assert not any(remedy.resumes for remedy in found)


@pytest.mark.parametrize("code", ["data", "profile", "model", "environment"])
def test_what_only_a_person_can_mend_has_no_remedy(code: str, failed: tuple[Run, Any]) -> None:
    run, machine = failed
    assert remedies(_failure(run, {"code": code, "message": "x"}), machine) == ()


@pytest.mark.parametrize(
    "error",
    [
        {},
        {"code": "disk", "message": "no space left"},
        {"code": "internal", "message": "x"},
        {"code": "resources", "message": "the hub is out of memory, try later"},
    ],
)
def test_a_run_that_died_goes_on_as_it_was(error: dict[str, Any], failed: tuple[Run, Any]) -> None:
    run, machine = failed
    (only,) = remedies(_failure(run, error), machine)
    assert only.resumes
    assert only.changes == {}


def test_applying_changes_the_run_in_place_or_starts_another(
    failed: tuple[Run, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, machine = failed
    started: list[Any] = []
    monkeypatch.setattr("engine.runs.launch.spawn_worker", lambda path, _: started.append(path))
    failure = _failure(run, OOM)
    found = remedies(failure, machine)
    before = (run.path / "run.json").read_text()
    same, _ = apply_remedy(failure, found[0], machine)
    assert same.id == run.id
    assert json.loads((run.path / "run.before-1.json").read_text()) == json.loads(before)
    now = json.loads((run.path / "run.json").read_text())
    assert now["settings"]["train"]["activation_checkpointing"] is True
    assert json.loads((run.path / "job.json").read_text())["resume"] is True
    events, _ = read_events(run.events_path)
    assert events[-1]["type"] == "control"
    assert "checkpointing on" in events[-1]["outcome"]
    shorter = next(item for item in found if item.changes.keys() == {"model.max_length"})
    other, _ = apply_remedy(failure, shorter, machine)
    assert other.id != run.id
    settings = json.loads((other.path / "run.json").read_text())["settings"]
    assert settings["model"]["max_length"] == shorter.changes["model.max_length"]
    assert json.loads((other.path / "job.json").read_text())["resume"] is False
    assert started == [run.path, other.path]
    assert module.resume_run is resume_run
