"""Commands that a launcher starts several times refuse at once; a command that is ended leaves no worker behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from engine.files import write_json_atomic
from engine.hardware.probe import probe_machine
from engine.profile.load import load_profile
from engine.resolve.resolve import resolve_profile
from engine.runs.lock import holder_pid
from engine.runs.store import create_run
from tests.process.conftest import FAST
from tests.process.test_train import wait_for

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
LAUNCHERS = {
    "torchrun": TORCHRUN,
    "mpirun": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
    "srun": {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"},
}
STARTING = {
    "train": ("train", "p.toml"),
    "sweep": ("sweep", "p.toml", "--vary", "lora.r=2,4"),
    "demo": ("demo",),
    "selftest": ("selftest",),
}


def launched(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def nothing_began(shell):
    home = shell.folder / "state" / "tunedeck"
    return not [path for name in ("runs", "sweeps", "selftest") for path in (home / name).glob("*")]


@pytest.mark.parametrize("command", STARTING)
def test_one_of_several_processes_starts_nothing(shell, monkeypatch, command):
    shell.write("p.toml", FAST)
    launched(monkeypatch, TORCHRUN)
    done = shell.engine(*STARTING[command], timeout=20)
    assert done.code == 9
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: WORLD_SIZE=2")
    assert nothing_began(shell)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_is_told_with_its_variable(shell, monkeypatch, launcher):
    shell.write("p.toml", FAST)
    launched(monkeypatch, LAUNCHERS[launcher])
    done = shell.engine("train", "p.toml", "--json", timeout=20)
    error = done.json["error"]
    assert (done.code, error["code"]) == (9, "environment")
    assert next(name for name in LAUNCHERS[launcher] if name.endswith(("SIZE", "NUM_TASKS"))) in error["message"]
    assert nothing_began(shell)


@pytest.mark.usefixtures("warm_workers")
def test_commands_that_start_no_training_go_on(shell, monkeypatch):
    shell.write("p.toml", FAST)
    launched(monkeypatch, {**TORCHRUN, **LAUNCHERS["srun"]})
    for arguments in (("fit", "demo"), ("probe",), ("runs", "list"), ("profile", "check", "p.toml")):
        done = shell.engine(*arguments, timeout=20)
        assert done.code == 0, (arguments, done.err)
    data = shell.engine("data", "check", "p.toml", "--json", timeout=60)
    assert data.code == 0, data.err


def test_torchrun_itself(shell):
    shell.write("p.toml", FAST)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29519"]
    done = subprocess.run(
        [*command, "-m", "engine", "train", "p.toml"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "error: WORLD_SIZE=2: this is one of 2 processes" in done.stderr
    assert "exitcode  : 9" in done.stderr
    assert nothing_began(shell)


def test_a_worker_that_gets_a_rank_all_the_same_trains_alone(shell, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", shell.environment["XDG_STATE_HOME"])
    path = shell.folder / shell.write("p.toml", FAST.replace("max_steps = 6", "max_steps = 2"))
    resolved = resolve_profile(load_profile(path), probe_machine(processes=False))
    run = create_run("p", resolved.to_run_json(), path.read_text())
    write_json_atomic(run.path / "job.json", {"v": 1, "job": "train", "resume": False})
    command = [sys.executable, "-P", "-m", "engine.worker", str(run.path)]
    done = subprocess.run(command, cwd=run.path, env={**shell.environment, **TORCHRUN}, timeout=90, check=False)
    assert done.returncode == 0
    assert (run.path / "summary.json").is_file()


@pytest.mark.parametrize("how", [(), ("--detach",)], ids=["followed", "detached"])
def test_a_command_that_is_ended_before_training_takes_its_worker_along(shell, how):
    starter = shell.start("train", shell.write("p.toml", FAST), *how)
    run = wait_for(lambda: shell.runs and shell.runs[0])
    worker = wait_for(lambda: holder_pid(run / "lock"))
    starter.terminate()
    _, said = starter.communicate(timeout=20)
    assert starter.returncode == 128 + signal.SIGTERM
    assert "stopped before training began: there is no run" in said
    assert gone(worker)
    assert shell.runs == []


@pytest.mark.usefixtures("warm_workers")
def test_a_command_that_is_ended_while_it_trains_leaves_the_run_alone(shell, events):
    starter = shell.start("train", shell.write("p.toml", FAST), "--set", "train.max_steps=100000")
    run = wait_for(lambda: shell.runs and shell.runs[0])
    wait_for(lambda: any(event["type"] == "train_step" for event in events(run)))
    starter.terminate()
    _, said = starter.communicate(timeout=20)
    assert f"engine runs stop {run.name}" in said
    seen = len(events(run))
    wait_for(lambda: len(events(run)) > seen + 5)
    assert shell.engine("runs", "stop", "last", "--now").code == 0


@pytest.mark.usefixtures("warm_workers")
def test_a_sweep_whose_command_is_ended_goes_on_and_says_so(shell):
    starter = shell.start("sweep", shell.write("p.toml", FAST), "--vary", "lora.r=2,4")
    (sweep,) = wait_for(lambda: list((shell.folder / "state" / "tunedeck" / "sweeps").glob("*")))
    worker = wait_for(lambda: holder_pid(sweep / "lock"))
    starter.terminate()
    _, said = starter.communicate(timeout=20)
    assert starter.returncode == 128 + signal.SIGTERM
    assert f"engine sweeps stop {sweep.name}" in said
    assert holder_pid(sweep / "lock") == worker
    assert shell.engine("sweeps", "stop", "last").code == 0
    assert gone(worker, 60.0)


def test_a_command_that_is_ended_takes_the_worker_that_answers_it_along(shell, monkeypatch):
    (shell.folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(shell.folder / "tmp"))
    starter = shell.start("data", "check", shell.write("p.toml", FAST))
    (lock,) = wait_for(lambda: list(shell.folder.glob("tmp/tunedeck-job-*/lock")))
    worker = wait_for(lambda: holder_pid(lock))
    starter.terminate()
    starter.communicate(timeout=20)
    assert gone(worker)


def gone(pid, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
