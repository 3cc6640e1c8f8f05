"""A run from the shell: it trains, survives its starter, stops, resumes, and says what went wrong."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from engine.measure.comparison import predicted_run
from engine.memory.needs import needs_of
from engine.runs.lock import holder_pid
from engine.runs.record import read_record
from tests.process.conftest import FAST


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.mark.usefixtures("warm_workers")
def test_a_run_trains_and_leaves_what_the_next_commands_need(shell, events):
    asked = FAST.replace("[evaluate]", '[evaluate]\nprompts = ["Write 3 March 1999 as ISO.", "Who,\\nwhy?"]')
    shell.write("tell.sh", '#!/bin/sh\necho "$TUNEDECK_STATE: $TUNEDECK_TEXT" >> told\n')
    (shell.folder / "tell.sh").chmod(0o755)
    done = shell.engine("train", shell.write("p.toml", asked + 'notify = ["./tell.sh"]\n'), "--json")
    assert done.code == 0, done.err
    summary = done.json
    (run,) = shell.runs
    told = events(run)
    steps = [event for event in told if event["type"] == "train_step"]
    evaluated = [event for event in told if event["type"] == "eval"]
    assert (shell.folder / "told").read_text() == f"completed: {run.name}: completed at step 6\n"
    order = [event["name"] for event in told if event["type"] == "phase"]
    assert order[-3:] == ["evaluate", "train", "save"]
    assert all(event["seconds"] > 0 for event in evaluated)
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert evaluated[-1]["loss"] < evaluated[0]["loss"]
    assert summary["outcome"] == "completed"
    assert summary["best_eval_loss"] == min(event["loss"] for event in evaluated[1:])
    assert {"adapter", "tokenizer", "checkpoints", "data", "run.json", "summary.json"} <= {
        path.name for path in run.iterdir()
    }
    assert not list(run.rglob("*.bin")) + list(run.rglob("*.pt"))
    adapter = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "demo"
    assert [event["type"] for event in told if event["type"] == "memory"]
    predicted = predicted_run(read_record(run), None)
    needs = needs_of(predicted.spec, predicted.shape)
    written = [event["bytes"] for event in told if event["type"] == "checkpoint"]
    assert needs.checkpoint_bytes <= max(written) <= 1.1 * needs.checkpoint_bytes + 64 * 1024
    assert sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) <= needs.run_disk_bytes
    assert shell.engine("runs", "list", "--json").json["runs"][0]["state"] == "completed"
    shown = shell.engine("runs", "show", "last", "--json").json
    assert shown["settings"]["lora"]["r"] == 4
    assert shown["provenance"]["train.learning_rate"]["source"] == "profile"
    assert shown["memory"]["measured_bytes"] > 100 * 2**20
    answers = [(sample["index"], sample["step"]) for sample in shown["samples"]]
    assert answers == [(index, step) for index in (0, 1) for step in (0, 3, 6)]
    assert not [event for event in told if event["type"] == "warning"]
    lines = shell.engine("runs", "show", "last").out.splitlines()
    told_of = [line.split()[0] for line in lines[lines.index("prompt   Who,⏎why?") :][:4]]
    assert told_of == ["prompt", "base", "step", "step"]


@pytest.mark.usefixtures("warm_workers")
def test_nf4_trains_on_a_processor(shell, events):
    profile = shell.write("p.toml", FAST + '\n[quantization]\nmethod = "nf4"\n')
    done = shell.engine("train", profile, "--set", "train.max_steps=3", "--json")
    assert done.code == 0, done.err
    evaluated = [event["loss"] for event in events(shell.runs[0]) if event["type"] == "eval"]
    assert evaluated[-1] < evaluated[0]


@pytest.mark.usefixtures("warm_workers")
def test_kill_resume_ends_with_the_same_weights(shell, events):
    profile = shell.write("p.toml", FAST)
    assert shell.engine("train", profile, "--name", "straight", "--json").code == 0
    started = shell.engine("train", profile, "--name", "killed", "--detach", "--json")
    assert started.code == 0, started.err
    run = next(path for path in shell.runs if "killed" in path.name)
    wait_for(lambda: (run / "checkpoints" / "step-2").exists())
    pid = holder_pid(run / "lock")
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: holder_pid(run / "lock") is None)
    state = shell.engine("runs", "list", "--json").json["runs"][0]["state"]
    assert state in ("lost", "completed")
    if state == "lost":
        resumed = shell.engine("runs", "resume", run.name, "--json")
        assert resumed.code == 0, resumed.err
        starts = [event for event in events(run) if event["type"] == "started"]
        assert starts[-1]["resumed_from_step"] >= 2
    straight = next(path for path in shell.runs if "straight" in path.name)
    ours = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert ours == (straight / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.usefixtures("warm_workers")
def test_the_run_outlives_its_starter_and_stops_when_asked(shell, events):
    profile = shell.write("p.toml", FAST)
    starter = shell.start("train", profile, "--set", "train.max_steps=100000", "--set", "train.save_steps=100000")
    run = wait_for(lambda: shell.runs and shell.runs[0])
    wait_for(lambda: any(event["type"] == "train_step" for event in events(run)))
    starter.kill()
    starter.wait()
    seen = len(events(run))
    wait_for(lambda: len(events(run)) > seen + 5)
    assert shell.engine("runs", "list", "--json").json["runs"][0]["state"] == "running"
    stopped = shell.engine("runs", "stop", "last", "--json")
    assert stopped.json["state"] == "stopped"
    told = events(run)
    last = [event for event in told if event["type"] == "train_step"][-1]["step"]
    assert (run / "checkpoints" / f"step-{last}" / "manifest.json").exists()
    assert told[-1]["type"] in ("finished", "memory")
    assert (run / "adapter" / "adapter_model.safetensors").exists()


def test_ctrl_c_stops_with_a_checkpoint_and_its_own_exit_code(shell, events):
    profile = shell.write("p.toml", FAST)
    starter = shell.start("train", profile, "--set", "train.max_steps=100000", "--set", "train.save_steps=100000")
    run = wait_for(lambda: shell.runs and shell.runs[0])
    wait_for(lambda: any(event["type"] == "train_step" for event in events(run)))
    starter.send_signal(signal.SIGINT)
    out, err = starter.communicate(timeout=60)
    assert starter.returncode == 8, err
    assert "stopped" in out
    assert list((run / "checkpoints").glob("step-*"))


BAD = {
    "a missing model": ('name_or_path = "demo"', 'name_or_path = "./nowhere"', 4, "nowhere"),
    "a missing data file": ("demo:dates.train.jsonl", "gone.jsonl", 3, "gone.jsonl"),
    "an unknown key": ("r = 4", "rank = 4", 2, "lora.r"),
    "a wrong type": ("max_steps = 6", 'max_steps = "six"', 2, "max_steps"),
    "an unknown module": ("r = 4", 'r = 4\ntarget_modules = ["q_prj"]', 2, "q_proj"),
    "rows without answers": ("demo:dates.train.jsonl", "empty_answers.jsonl", 3, "row"),
    "an empty data set": ("demo:dates.train.jsonl", "empty.jsonl", 3, "empty.jsonl"),
    "a model that does not fit": (
        'name_or_path = "demo"',
        'name_or_path = "meta-llama/Llama-3.3-70B-Instruct"',
        5,
        "GiB",
    ),
}


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_answer_and_leaves_no_run(shell, case):
    old, new, code, word = BAD[case]
    shell.write("empty.jsonl", "")
    shell.write("empty_answers.jsonl", '{"prompt": "2 + 2 =", "completion": ""}\n' * 5)
    done = shell.engine("train", shell.write("p.toml", FAST.replace(old, new)))
    assert done.code == code, done.err
    assert word in done.err
    assert "Traceback" not in done.err
    assert shell.runs == []


def test_no_profile_at_all(shell):
    done = shell.engine("train", "nowhere.toml")
    assert done.code == 2
    assert "nowhere.toml" in done.err
    assert len(done.err.strip().splitlines()) == 1
