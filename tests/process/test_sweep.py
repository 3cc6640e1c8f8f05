"""A search as a user runs it: killed and resumed, stopped and resumed, ranked, and its best profile trained."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from engine.runs.lock import holder_pid
from tests.process.conftest import FAST, Shell

SPACE = '\n[sweep.space]\n"lora.r, lora.alpha" = [[2, 4], [8, 16]]\n'


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def sweep_of(shell: Shell) -> Path:
    return next((shell.folder / "state" / "tunedeck" / "sweeps").iterdir())


def rows_of(sweep: Path) -> list[dict]:
    place = sweep / "trials.json"
    return json.loads(place.read_text())["trials"] if place.exists() else []


def ended(sweep: Path) -> int:
    return sum(1 for row in rows_of(sweep) if row["state"] in ("completed", "pruned"))


@pytest.mark.usefixtures("warm_workers")
def test_a_killed_sweep_goes_on_where_it_was(shell):
    shell.write("p.toml", FAST + SPACE)
    started = shell.engine("sweep", "p.toml", "--detach", "--json")
    assert started.code == 0, started.err
    sweep = sweep_of(shell)
    assert started.json["sweep"] == sweep.name
    # With its worker at work: a run without one begins when the sweep is resumed.
    wait_for(lambda: ended(sweep) >= 1 and len(shell.runs) >= 2 and holder_pid(shell.runs[1] / "lock"))
    before = {row["trial"]: row for row in rows_of(sweep) if row["state"] == "completed"}
    os.kill(holder_pid(sweep / "lock"), signal.SIGKILL)
    second = shell.runs[1]
    wait_for(lambda: (second / "summary.json").exists())
    assert shell.engine("sweeps", "list").out.split()[6] == "lost"

    resumed = shell.engine("sweeps", "resume", "last", "--json", timeout=300)
    assert resumed.code == 0, resumed.err
    found = resumed.json
    assert found["state"] == "completed"
    assert [row["rank"] for row in found["rows"]] == [1, 2]
    assert [row["value"] for row in found["rows"]] == sorted(row["value"] for row in found["rows"])
    assert len(shell.runs) == 2
    after = {row["trial"]: row for row in found["rows"]}
    assert all(
        after[trial]["run"] == row["run"] and after[trial]["value"] == row["value"] for trial, row in before.items()
    )
    assert found["took"]["disk_bytes"] <= found["bill"]["disk_bytes"]
    told = json.loads((shell.runs[0] / "run.json").read_text())["sweep"]
    assert told == {"id": sweep.name, "trial": 0, "params": {"lora.r": 2, "lora.alpha": 4}}

    best = shell.engine("sweeps", "best", "last", "--write", "best.toml")
    assert best.code == 0, best.err
    assert shell.engine("profile", "check", "best.toml").code == 0
    assert f"r = {found['rows'][0]['params']['lora.r']}" in (shell.folder / "best.toml").read_text()
    again = shell.engine("sweeps", "resume", "last")
    assert again.code == 2
    assert "complete" in again.err


@pytest.mark.usefixtures("warm_workers")
def test_a_stopped_sweep_keeps_its_trials_steps(shell):
    shell.write("p.toml", FAST.replace("max_steps = 6", "max_steps = 400") + SPACE)
    process = shell.start("sweep", "p.toml")
    wait_for(
        lambda: any(
            (run / "events.jsonl").exists() and '"train_step"' in (run / "events.jsonl").read_text()
            for run in shell.runs
        )
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 8, err
    assert "stopped" in out
    sweep, run = sweep_of(shell), shell.runs[0]
    step = json.loads((run / "summary.json").read_text())["step"]
    assert 0 < step < 400
    assert [row["state"] for row in rows_of(sweep)].count("running") == 1
    process = shell.start("sweeps", "resume", "last", "--json")
    wait_for(lambda: f'"resumed_from_step":{step}' in (run / "events.jsonl").read_text())
    assert shell.engine("sweeps", "stop", "last").code == 0
    process.communicate(timeout=300)
    assert process.returncode == 8
    assert shell.engine("sweeps", "rm", "last", "--runs", "--yes").code == 0
    assert shell.runs == []


@pytest.mark.usefixtures("warm_workers")
def test_a_score_ranks_trials_and_poor_ones_leave_no_weights(shell):
    sweep = '\n[sweep]\nmetric = "token_f1"\nkeep_weights = 1\n[sweep.space]\ntrain.learning_rate = [1e-6, 5e-3]\n'
    shell.write("p.toml", FAST.replace("learning_rate = 2e-3\n", "") + sweep)
    found = shell.engine("sweep", "p.toml", "--json", timeout=400)
    assert found.code == 0, found.err
    rows = found.json["rows"]
    assert [row["state"] for row in rows] == ["completed", "completed"]
    assert rows[0]["value"] >= rows[1]["value"]
    runs = {run.name: run for run in shell.runs}
    assert (runs[rows[0]["run"]] / "adapter").is_dir()
    assert not (runs[rows[1]["run"]] / "adapter").exists()
    assert not (runs[rows[0]["run"]] / "eval").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "the profile varies nothing"),
        (("--vary", "lora.r=0,4"), 2, "0 is out of range"),
        (("--vary", "lora.r"), 2, "is not key=values"),
        (("--vary", "lora.r=2,4", "--storage", "mysql://a:b@host/x"), 2, "password"),
        (("--vary", "lora.r=2,4", "--study", "x"), 2, "--study goes with --storage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_searched_is_said_before_anything_starts(shell, arguments, code, said):
    shell.write("p.toml", FAST)
    found = shell.engine("sweep", "p.toml", *arguments)
    assert found.code == code, found.err
    assert said in found.err
    assert shell.runs == []
