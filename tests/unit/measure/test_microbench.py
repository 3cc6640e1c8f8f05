"""The measuring of a device: on this processor, for real."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.probe import probe
from engine.errors import EngineError, ExitCode
from engine.hardware.probe import probe_machine
from engine.measure import device, microbench
from engine.measure import device as device_measure
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.speed.measured import DtypeRates, MeasuredRates, load_rates


def test_a_processor_is_measured_in_about_a_second() -> None:
    began = time.monotonic()
    rates = microbench.measure("cpu", ("fp32",))
    assert time.monotonic() - began < 5
    found = rates.dtypes["fp32"]
    assert [width for width, _ in found.products] == [256, 768, 2048]
    assert all(1e9 < flops < 1e14 for _, flops in found.products)
    assert 1e8 < rates.bandwidth_bytes_s < 1e13
    # A token and unit of width takes some 50 operations, a score some 10, a logit fewer.
    assert found.value_s > found.score_s > found.logit_s / 3 > 0


def test_the_best_of_several_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([0.03, 0.03, 0.001, *[0.03] * 100])
    assert 0.001 <= microbench._best_s(lambda: time.sleep(next(waits)), "cpu") < 0.02


def test_probe_measures_in_a_process_of_its_own_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = CliRunner().invoke(probe, ["--measure", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)["measured"]
    kept = load_rates(None, probe_machine())
    assert kept is not None
    assert shown[-1]["bandwidth_bytes_s"] == kept.bandwidth_bytes_s
    assert {"fp32", "bf16"} <= kept.dtypes.keys()
    assert "Measured" in CliRunner().invoke(probe).output


def test_the_first_run_on_a_device_measures_it_and_the_second_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    job, machine, taken = Job(tmp_path, {}, EventWriter(tmp_path / "events.jsonl")), probe_machine(), []
    rates = MeasuredRates("2026-11-24", 1, 1e10, {"fp32": DtypeRates(((256, 1e11),), 7e-8, 8e-9, 3e-9)})
    monkeypatch.setattr(microbench, "measure", lambda device, dtypes: taken.append((device, dtypes)) or rates)
    assert device.measured_rates(job, "cpu", None, machine) == rates
    assert device.measured_rates(job, "cpu", None, machine) == rates
    assert taken == [("cpu", ("fp32", "bf16"))]
    assert device.measured_rates(job, "cuda", None, machine) is None, "which card it was is not known"


def test_a_device_that_cannot_be_measured_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    job = Job(tmp_path, {}, EventWriter(tmp_path / "events.jsonl"))

    def full(*_: object) -> MeasuredRates:
        raise RuntimeError("out of memory\nat line 3")

    monkeypatch.setattr(microbench, "measure", full)
    assert device.measured_rates(job, "cpu", None, probe_machine()) is None
    (warning,) = (event for event in read_events(tmp_path / "events.jsonl")[0] if event["type"] == "warning")
    assert warning["code"] == "device_not_measured"
    assert warning["message"].endswith("without measured rates: out of memory")


def test_a_measurement_that_fails_says_what_the_process_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_measure, "worker_environment", lambda _: {"PATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    with pytest.raises(EngineError) as raised:
        device_measure.measure_device(None, probe_machine())
    assert raised.value.code == ExitCode.ENVIRONMENT
    assert "could not be measured" in raised.value.message
