"""A self-test on the processor, from the command to the file, and one that is cut."""

from __future__ import annotations

import json
import re
import signal
import time

import psutil

from engine.errors import ExitCode


def records(shell):
    return sorted((shell.folder / "state" / "tunedeck" / "selftest").glob("*.json"))


def test_from_the_command_to_what_fit_knows_afterwards(shell):
    assert not shell.engine("fit", "demo", "--json").json["models"][0]["speed_measured"]
    done = shell.engine("selftest", "--device", "cpu", "--minutes", "0.5", "--json", "--report", "report.json")
    found = done.json
    assert (found["state"], found["exit_code"], found["device"]) == ("ended", done.code, "cpu")
    steps = {step["name"]: step["checks"] for step in found["steps"]}
    assert list(steps) == ["machine", "kernels", "training", "memory", "speed", "settings"]
    for name in ("machine", "kernels", "training"):
        assert steps[name][0]["status"] == "passed", steps[name][0]
        assert "failed" not in [check["status"] for check in steps[name]]
    trained = steps["training"][0]["figures"]
    assert trained["loss_after"] < trained["loss_before"]
    assert steps["settings"][-1]["text"] == "left out for want of time"

    (record,) = records(shell)
    assert json.loads(record.read_text())["counts"] == found["counts"]
    assert [path.name for path in record.parent.iterdir()] == [record.name], "nothing else is left"
    assert str(shell.folder) not in (shell.folder / "report.json").read_text()
    assert "Fast paths against plain computation" in done.err

    after = shell.engine("fit", "demo", "--json").json
    assert after["models"][0]["speed_measured"], "the next prediction goes by what was measured"
    assert shell.runs == [], "its short runs are not among a person's own"


def test_an_interrupt_leaves_what_was_found(shell):
    process = shell.start("selftest", "--device", "cpu", "--minutes", "3")
    deadline = time.monotonic() + 60
    while not (found := [path for path in records(shell) if '"status": "passed"' in path.read_text()]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED, err
    assert re.search(r"Stopped before the end: (all \d+ checks|the one check that ran) passed", out), out
    record = json.loads(found[0].read_text())
    assert (record["state"], record["exit_code"]) == ("stopped", 8)
    assert record["counts"]["passed"] >= 1
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
