"""A report tells of the device and of nobody: planted names are not in the file, wherever they stood."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Gpu, GpuProcess
from engine.selftest.checks import FAILED, Finding, Place
from engine.selftest.plan import SelftestPlan
from engine.selftest.record import to_json
from engine.selftest.report import write_report

UUID = "GPU-8f6f3d2a-1b2c-3d4e-5f60-718293a4b5c6"
SECRETS = ("annas-tower", "anna-example", "Anna-Example", UUID[4:], "0000:65:00.0", "payroll.py", "secret", "my models")


@pytest.fixture
def person(monkeypatch):
    """Somebody else's machine, as far as Python tells."""
    monkeypatch.setenv("HOME", "/home/anna-example")
    monkeypatch.setenv("USER", "anna-example")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/anna-example/.local/state")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="annas-tower.example.org"))


def test_no_name_of_a_person_host_or_folder_is_in_the_file(record, machine, person, tmp_path):
    made = record()
    gpu = Gpu(
        "NVIDIA H100",
        uuid=UUID,
        pci_bus_id="0000:65:00.0",
        free_bytes=2**36,
        total_bytes=2**36,
        compute_capability=(9, 0),
        processes=(GpuProcess(7, 2**30, "payroll.py", "anna-example"),),
    )
    target = made.plan.place.target
    place = Place(machine, type(target)("cuda", gpu.name, 0, gpu, 2**36, ""))
    made.plan = SelftestPlan(place, made.plan.minutes, made.plan.steps)
    words = (
        "FileNotFoundError: '/home/anna-example/my models/x.safetensors' in \"/opt/secret/lib/python3.12/torch/nn.py\""
        f" on annas-tower and ANNAS-TOWER.example.org for Anna-Example: device {UUID} at 0000:65:00.0"
    )
    figures = {"warnings": [words], words: 1}
    made.steps[0].findings.append(Finding("a check", FAILED, words, figures))
    path = tmp_path / "report.json"
    write_report(path, to_json(made))
    text = path.read_text()
    for secret in SECRETS:
        assert secret.lower() not in text.lower(), secret
    for kept in (
        "NVIDIA H100",
        "FileNotFoundError",
        "<path>/torch/nn.py",
        "AMD EPYC 9655",
        '"error 4.9e-07, tolerance 0.0001"',
    ):
        assert kept in text
    assert json.loads(text)["machine"]["gpu"]["other_processes"] == 1


def test_only_an_earlier_report_is_overwritten(record, tmp_path):
    path = tmp_path / "report.json"
    write_report(path, to_json(record()))
    write_report(path, to_json(record(kernels=FAILED)))
    assert json.loads(path.read_text())["counts"]["failed"] == 1
    path.write_text("[1, 2]")
    with pytest.raises(EngineError, match="no self-test wrote") as caught:
        write_report(path, to_json(record()))
    assert caught.value.code is ExitCode.PROFILE
    assert path.read_text() == "[1, 2]"
    with pytest.raises(EngineError, match="no such folder"):
        write_report(tmp_path / "nowhere" / "report.json", to_json(record()))
