"""A run measures itself: shown beside what was predicted, and kept for the next prediction."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from engine.hardware.probe import probe_machine
from engine.memory.calibration_store import decode
from engine.memory.shape import MIB
from tests.process.conftest import FAST, Shell

BIG = FAST.replace("max_length = 128", "max_length = 512").replace("batch_size = 4", "batch_size = 16")
BIG = BIG.replace("max_samples = 60", "max_samples = 20\npacking = false").replace("max_steps = 6", "max_steps = 1")
"""Needs several GiB, though the model is small."""


def records(shell):
    (path,) = (shell.folder / "state" / "tunedeck" / "calibration").glob("*gib.json")
    return json.loads(path.read_text())["records"]


@pytest.fixture(scope="module")
def home_after_a_run(tmp_path_factory):
    """A home in which one run was trained, by a process that measured itself from its start."""
    shell = Shell(tmp_path_factory.mktemp("measured"))
    assert shell.engine("train", shell.write("p.toml", FAST), "--json").code == 0
    return shell.folder


@pytest.fixture
def measured(shell, home_after_a_run):
    """A shell after that run."""
    shutil.copytree(home_after_a_run, shell.folder, dirs_exist_ok=True)
    return shell


def test_a_run_is_measured_shown_and_kept(measured, events):
    shell = measured
    (run,) = shell.runs
    first, last = (event for event in events(run) if event["type"] == "calibration")
    assert (first["stage"], last["stage"]) == ("first_steps", "end")
    assert {"load", "forward", "backward", "optimizer"} <= first["phases"].keys()
    assert 100 * MIB < first["measured"]["context_bytes"] < first["measured"]["device_bytes"]
    assert first["measured"]["device_bytes"] <= last["measured"]["device_bytes"]

    shown = shell.engine("runs", "show", "last", "--json").json["memory"]
    assert shown["measured_bytes"] == last["measured"]["device_bytes"]
    assert shown["error_percent"] == last["error_percent"]
    printed = shell.engine("runs", "show", "last").out
    (resident,) = [line for line in printed.splitlines() if line.startswith("  resident  ")]
    error = last["predicted"]["device_bytes"] / last["measured"]["device_bytes"] - 1
    assert f"{error * 100:+.1f} %" in resident
    assert all(len(line) <= 80 for line in printed.splitlines() if line.startswith("  resident"))

    (record,) = records(shell)
    kept = decode(record)
    assert kept.reserved_bytes == last["measured"]["device_bytes"]
    assert kept.tokens_per_second > 0
    assert kept.shape.micro_batch == 4


@pytest.mark.usefixtures("warm_workers")
def test_the_measurement_is_of_this_machine_and_software_only(measured):
    """What `load_calibration` reads in another process, before and after a version changes in the file."""
    shell = measured
    code = (
        "from engine.hardware.probe import probe_machine; "
        "from engine.memory.calibration_store import load_calibration; "
        "found = load_calibration(None, probe_machine()); print(len(found.measurements) if found else 0)"
    )

    def known():
        done = subprocess.run(
            [sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert known() == 1
    (path,) = (shell.folder / "state" / "tunedeck" / "calibration").glob("*gib.json")
    version = probe_machine(processes=False).torch_version
    path.write_text(path.read_text().replace(f'"torch": "{version}"', '"torch": "1.0"'))
    assert known() == 0
    assert shell.engine("train", "p.toml", "--json").code == 0
    assert [record["software"]["torch"] for record in records(shell)] == ["1.0", version]


def mapped_by_libraries_bytes(shell):
    """The address space of a worker before it loads a model: a CUDA build of torch maps gigabytes more than another."""
    code = (
        "import pathlib\n"
        "from engine.libraries import hidden\n"
        "with hidden(('bitsandbytes', 'torchao')):\n"
        "    import engine.train.run\n"
        "lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmSize')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) * 1024


def train_within(shell, profile, limit_bytes):
    """`engine train` where the address space is limited, which stands for a full machine."""
    import resource

    return subprocess.run(
        [sys.executable, "-m", "engine", "train", shell.write("p.toml", profile), "--json"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=180,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes)),
        check=False,
    )


def test_a_run_short_of_memory_goes_on_in_smaller_pieces_and_says_so(shell, events):
    limit_bytes = mapped_by_libraries_bytes(shell) + 800 * MIB
    done = train_within(shell, BIG, limit_bytes)
    assert done.returncode == 0, done.stderr
    found = events(shell.runs[0])
    warnings = [event["message"] for event in found if event.get("code") == "out_of_memory"]
    assert warnings
    assert "done again with" in warnings[0]
    told = [event for event in found if event["type"] == "calibration" and event["stage"] == "out_of_memory"]
    assert len(told) == 1
    assert 500 * MIB < told[0]["measured"]["limit_bytes"] < limit_bytes
    # The prediction knew that it needs more than that: nothing to be learned.
    assert told[0]["kept"] is False


def test_the_second_prediction_is_what_the_first_run_took(measured, events):
    shell = measured
    took = [event for event in events(shell.runs[0]) if event["type"] == "calibration"][-1]["measured"]
    checked = shell.engine("profile", "check", "p.toml", "--json").json
    assert checked["device_bytes"] == took["device_bytes"]
    assert shell.engine("train", "p.toml", "--name", "again", "--json").code == 0
    again = next(run for run in shell.runs if "again" in run.name)
    estimate = json.loads((again / "run.json").read_text())["estimate"]
    assert estimate["device_bytes"] == took["device_bytes"]
    assert "calibration" in [term["name"] for term in estimate["terms"]]
    last = [event for event in events(again) if event["type"] == "calibration"][-1]
    assert abs(last["error_percent"]["device_bytes"]) < 10

    (path,) = (shell.folder / "state" / "tunedeck" / "calibration").glob("*gib.json")
    path.write_text(path.read_text().replace('"torch": "', '"torch": "0.'))
    assert shell.engine("profile", "check", "p.toml", "--json").json["device_bytes"] != took["device_bytes"]
    path.write_text("{")
    fit = shell.engine("fit", "demo", "--json")
    assert fit.code == 0, fit.err
    assert str(path) in fit.out
