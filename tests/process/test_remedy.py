"""A run that ran out of memory goes on from its checkpoint with other settings and the same batch, from the shell."""

from __future__ import annotations

import json
import time

import pytest

from engine.runs.events import EventWriter
from tests.process.conftest import FAST


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.slow
def test_a_failed_run_goes_on_with_a_remedy(shell, events):
    profile = FAST.replace("accumulation_steps = 1", "accumulation_steps = 2")
    trained = shell.engine("train", shell.write("p.toml", profile), "--set", "train.max_steps=4", "--json")
    assert trained.code == 0, trained.err
    (run,) = shell.runs
    nothing = shell.engine("runs", "remedy", "last")
    assert nothing.code == 2
    assert "is completed: only failed and lost runs have remedies" in nothing.err
    # As if memory had run out in the last step: the state before it is in the checkpoints.
    (run / "summary.json").unlink()
    for folder in (run / "checkpoints").iterdir():
        if folder.name != "step-2":
            folder.rename(run / f"gone-{folder.name}")
    writer = EventWriter(run / "events.jsonl")
    writer.write(
        "error",
        code="resources",
        cause="out_of_memory",
        message="out of memory: DefaultCPUAllocator: not enough memory",
    )
    writer.write("finished", outcome="failed", step=3, exit_code=5)
    writer.close()
    shown = shell.engine("runs", "remedy", "last", "--json")
    assert shown.code == 0, shown.err
    first = shown.json["remedies"][0]
    assert first["resumes"]
    assert first["changes"]["train.activation_checkpointing"] is True
    assert "checkpointing on" in shell.engine("runs", "remedy", "last").out
    done = shell.engine("runs", "remedy", "last", "--apply", "1", "--json")
    assert done.code == 0, done.err
    assert done.json["run"] == run.name
    for _ in range(600):
        if events(run)[-1]["type"] == "finished" and (run / "summary.json").exists():
            break
        time.sleep(0.1)
    told = events(run)
    started = [event for event in told if event["type"] == "started"][-1]
    assert started["resumed_from_step"] == 2
    assert told[-1]["outcome"] == "completed"
    assert told[-1]["step"] == 4
    settings = json.loads((run / "run.json").read_text())["settings"]["train"]
    assert settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"] == 8
    assert (run / "run.before-1.json").is_file()
