"""A new run from the state of another: what differs, what is kept, and what is refused before anything is made."""

from __future__ import annotations

import json
import shutil

import pytest

from engine.errors import EngineError, ExitCode
from engine.resolve.branch import plan_branch
from engine.resolve.resolve import resolve_profile
from engine.runs.checkpoint import write_checkpoint
from engine.runs.events import EventWriter
from engine.runs.record import PROFILE_TEXT
from engine.runs.start import bring_start, start_of
from engine.runs.store import create_run
from tests.unit.profile_machines import DATA, MODEL

TEXT = f"{MODEL}{DATA}[tuning]\nmethod = 'lora'\n[train]\nlearning_rate = 1e-3\nmax_steps = 8\n"


@pytest.fixture
def run(tmp_path, load, cpu_machine, monkeypatch):
    """A run that ended at step 4, with its checkpoints of step 2 and 4."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run_json = resolve_profile(load(TEXT, "train.weight_decay=0.1"), cpu_machine).to_run_json()
    made = create_run("first", {**run_json, PROFILE_TEXT: TEXT}, TEXT)
    for step in (2, 4):
        write_checkpoint(made.path / "checkpoints", step, lambda folder, step=step: _fill(folder, step))
    _ended(made)
    return made


def _ended(run):
    """A run of another day: it is not about to start."""
    writer = EventWriter(run.events_path)
    writer.write("finished", outcome="completed")
    writer.close()


def _fill(folder, step):
    for name in ("trainable.safetensors", "optimizer.safetensors", "optimizer.json"):
        (folder / name).write_text(f"{name} {step}")


def planned(run, machine, *sets, which="last"):
    return plan_branch(run, sets, which, machine)


def test_only_what_is_set_differs_and_the_rest_is_as_it_was(run, cpu_machine):
    found = planned(run, cpu_machine, "train.max_steps=20")
    assert found.differences == ("train.max_steps: 8 → 20",)
    assert found.resolved.settings.train.weight_decay == 0.1
    assert found.start.moments
    assert (found.start.run, found.start.step) == (run.id, 4)


def test_edits_of_the_runs_profile_count_and_another_batch_is_no_conflict(run, cpu_machine):
    path = run.path / "profile.toml"
    path.write_text(TEXT.replace("1e-3", "1e-4"))
    found = planned(run, cpu_machine, "train.total_batch_size=4")
    assert "train.learning_rate: 0.001 → 0.0001" in found.differences
    assert found.resolved.settings.train.total_batch_size == 4


@pytest.mark.parametrize("change", ["train.optim=adafactor", "model.dtype=fp32", "lora.plus_ratio=4"])
def test_moments_begin_anew_where_they_would_mean_something_else(run, cpu_machine, change):
    found = planned(run, cpu_machine, change)
    assert not found.start.moments
    assert [name for name, _ in found.start.files] == ["trainable.safetensors"]
    assert any("moments begin anew" in remark and change.split("=")[0] in remark for remark in found.remarks)


def test_everything_that_would_not_fit_is_refused_at_once(run, cpu_machine):
    with pytest.raises(EngineError) as raised:
        planned(run, cpu_machine, "lora.r=4", "lora.alpha=8", "tuning.method=full", "train.objective=reward")
    assert {problem.key for problem in raised.value.problems} == {
        "lora.r",
        "lora.alpha",
        "tuning.method",
        "train.objective",
    }
    assert raised.value.code is ExitCode.PROFILE


def test_a_checkpoint_is_chosen_by_step_and_a_damaged_one_is_passed_over(run, cpu_machine):
    assert planned(run, cpu_machine, which="2").start.step == 2
    (run.path / "checkpoints" / "step-4" / "trainable.safetensors").write_text("other")
    assert planned(run, cpu_machine).start.step == 2
    for which, words in (("4", "is damaged"), ("3", "those of step 2, 4"), ("best", "no best"), ("x", "is no step")):
        with pytest.raises(EngineError, match=words) as raised:
            planned(run, cpu_machine, which=which)
        assert raised.value.hint


def test_a_branch_stands_when_the_other_run_is_gone(run, cpu_machine, tmp_path):
    start = start_of(planned(run, cpu_machine).resolved.to_run_json())
    assert start is not None
    bring_start(tmp_path / "new", start)
    shutil.rmtree(run.path)
    assert (tmp_path / "new" / "start" / "trainable.safetensors").read_text() == "trainable.safetensors 4"
    with pytest.raises(EngineError, match="is gone"):
        bring_start(tmp_path / "newer", start)


def test_what_an_adapter_decided_stays_decided(run, cpu_machine):
    record = json.loads((run.path / "run.json").read_text())
    record["settings"]["model"]["additional_special_tokens"] = ["<a>"]
    record["settings"]["lora"]["r"] = 3
    record["start"] = {"kind": "adapter", "path": "gone"}
    (run.path / "run.json").write_text(json.dumps(record))
    settings = planned(run, cpu_machine, "train.max_steps=20").resolved.settings
    assert (settings.model.additional_special_tokens, settings.lora.r) == (["<a>"], 3)


def test_a_run_that_has_lost_what_it_began_with_is_no_parent(run, cpu_machine):
    record = json.loads((run.path / "run.json").read_text())
    record["start"] = {"kind": "branch", "run": "r", "files": [["trainable.safetensors", "/gone"]]}
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(EngineError, match="is gone from its folder") as raised:
        planned(run, cpu_machine)
    assert raised.value.where.endswith("start/trainable.safetensors")
    (run.path / "start").mkdir()
    (run.path / "start" / "trainable.safetensors").touch()
    assert planned(run, cpu_machine).start.step == 4


def test_a_run_at_work_is_no_parent_yet(run, cpu_machine):
    run.events_path.unlink()
    with pytest.raises(EngineError, match="is starting") as raised:
        planned(run, cpu_machine)
    assert raised.value.code is ExitCode.RESOURCES


@pytest.mark.parametrize(("there", "here", "anew"), [("dpo", "dpo", False), ("sft", "dpo", True), ("dpo", "sft", True)])
def test_what_answers_are_compared_with_stays_in_a_run_that_goes_on_comparing(
    tmp_path, load, cpu_machine, monkeypatch, there, here, anew
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c", "completion": "b"}\n')
    run_json = resolve_profile(load(TEXT, f"train.objective={there}"), cpu_machine).to_run_json()
    made = create_run("first", run_json, TEXT)
    write_checkpoint(made.path / "checkpoints", 4, lambda folder: _fill(folder, 4))
    _ended(made)
    (made.path / "start").mkdir()
    (made.path / "start" / "trainable.safetensors").write_text("sft")
    record = {**run_json, "start": {"kind": "branch", "run": "r", "new_reference": True}}
    (made.path / "run.json").write_text(json.dumps(record))
    start = planned(made, cpu_machine, f"train.objective={here}").start
    assert start.new_reference == anew
    assert ("reference.safetensors", str(made.path / "start" / "trainable.safetensors")) in start.files


def test_a_template_file_that_was_changed_since_is_told(run, cpu_machine, tmp_path):
    (run.path / "template.jinja").write_text("{{ messages }}", encoding="utf-8")
    file = tmp_path / "own.jinja"
    for text in ("{{ messages }}", "{{ messages[0] }}"):
        file.write_text(text, encoding="utf-8")
        found = planned(run, cpu_machine, f"data.template={file}")
        told = [remark for remark in found.remarks if "own.jinja is not the one of run" in remark]
        assert len(told) == (text != "{{ messages }}")
