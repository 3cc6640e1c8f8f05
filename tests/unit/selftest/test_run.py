"""A whole self-test with checks that take no time: its file, what is left out, second tries, settings compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.selftest.checks import FAILED, PASSED, SKIPPED, Item, Step, place_of
from engine.selftest.plan import SelftestPlan
from engine.selftest.run import NO_TIME, run_selftest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    written = []

    def go(*steps, minutes=1.0):
        plan = SelftestPlan(place_of(machine, "cpu"), minutes, steps)
        record = run_selftest(plan, lambda step: None, lambda step, finding: written.append(finding))
        assert [one.name for one in written] == [one.name for one in record.findings], "each was told as it came"
        assert os.listdir(tmp_path / "tunedeck" / "selftest") == [record.path.name], "nothing else is left"
        found = json.loads(record.path.read_text())
        assert found["state"] == "ended"
        return record, found

    return go


def item(act, name="", expected_s=0.1, **params):
    return Item(name or act, "", f"tests.unit.selftest.acts:{act}", expected_s, params)


def test_numbers_that_are_not_finite_become_null(run):
    _, found = run(Step("kernels", "Kernels", (item("passes", nan=True),), 1.0))
    assert found["steps"][0]["checks"][0]["figures"] == {"number": None}


def test_what_does_not_begin_is_told_as_left_out(run):
    items = (item("passes"), item("passes", expected_s=1000.0), item("passes"))
    record, found = run(Step("kernels", "Kernels", items, 0.5), Step("memory", "Memory", (), 1.0))
    assert [finding.status for finding in record.findings] == [PASSED, SKIPPED, SKIPPED, SKIPPED]
    assert [finding.text for finding in record.findings[1:]] == [NO_TIME, NO_TIME, "nothing of it fits on this device"]
    assert found["counts"] == {"passed": 1, "failed": 0, "skipped": 3}
    assert found["exit_code"] == 0


def test_a_slow_step_is_tried_again_before_it_fails(run, tmp_path):
    mark = str(tmp_path / "tried")
    step = Step("speed", "Speed", (item("passes_second", mark=mark), item("refuses")), 1.0, alone=True, least=2)
    record, _ = run(step)
    assert [finding.status for finding in record.findings] == [PASSED, FAILED]
    assert all(finding.text.endswith("at the second try") for finding in record.findings)


@pytest.mark.parametrize(("speeds", "status"), [((1000, 1100), PASSED), ((1000, 2000), FAILED)])
def test_settings_are_compared_and_a_faster_neighbour_runs_twice(run, speeds, status):
    items = tuple(item("measures", f"setting {speed}", speed=speed) for speed in speeds)
    record, found = run(Step("settings", "Settings", items, 1.0, alone=True))
    *measured, verdict = record.findings
    assert verdict.status == status
    assert ["the better of two runs" in finding.text for finding in measured] == [status == FAILED] * 2
    assert found["exit_code"] == (9 if status == FAILED else 0)
