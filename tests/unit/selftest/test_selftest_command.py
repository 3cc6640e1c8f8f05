"""The command itself: what it refuses before anything runs, and that stdout holds one result."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from click.testing import CliRunner

from engine.cli.selftest import selftest
from engine.errors import EngineError, ExitCode
from engine.selftest import report as report_module
from engine.selftest import settings
from engine.selftest.checks import SKIPPED, Item, place_of
from engine.selftest.record import exit_code, new_record


@pytest.fixture
def ran(monkeypatch, record):
    """`ran(made)`: the command's self-test ends with this record; the list holds one entry a call."""
    calls = []

    def end(made=None):
        def run(plan, on_step, on_finding):
            calls.append(plan)
            found = made or record()
            for step in found.steps:
                on_step(step.step)
                for finding in step.findings:
                    on_finding(step, finding)
            return found

        monkeypatch.setattr("engine.selftest.run.run_selftest", run)
        return calls

    return end


def ask(*arguments):
    return CliRunner().invoke(selftest, [*arguments, "--device", "cpu"])


@pytest.mark.parametrize("minutes", ["nan", "NaN", "inf", "0", "-1"])
def test_minutes_are_a_number_within_the_range(ran, minutes):
    calls = ran()
    done = ask("--minutes", minutes)
    assert done.exit_code == 2
    assert "--minutes" in done.stderr
    assert done.stdout == ""
    assert calls == []


def test_a_test_that_checked_nothing_does_not_end_with_0(ran, record):
    made = record(machine=SKIPPED, kernels=SKIPPED, memory=SKIPPED)
    made.steps[1].findings.pop(0)
    assert exit_code(made) is ExitCode.ENVIRONMENT
    ran(made)
    done = ask()
    assert done.exit_code == ExitCode.ENVIRONMENT
    assert "nothing was checked" in done.stdout


@pytest.mark.parametrize("path", ["/proc/x.json", "{folder}/" + "x" * 254, "{folder}/nowhere/x.json"])
def test_a_report_that_cannot_be_written_is_found_before_anything_runs(ran, tmp_path, path):
    calls = ran()
    done = ask("--json", "--report", path.format(folder=tmp_path))
    assert isinstance(done.exception, EngineError)
    assert done.exception.code is ExitCode.DISK
    assert calls == []
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_found_before_anything_runs(ran, tmp_path):
    calls = ran()
    tmp_path.chmod(0o500)
    done = ask("--report", str(tmp_path / "x.json"))
    assert isinstance(done.exception, EngineError)
    assert calls == []


def test_a_folder_is_no_report(ran, tmp_path):
    calls = ran()
    done = ask("--report", str(tmp_path))
    assert done.exit_code == 2
    assert calls == []


def test_stdout_is_one_object_where_the_report_fails_at_the_end(ran, monkeypatch, tmp_path):
    def full(path, value, mode):
        raise OSError(28, "No space left on device")

    ran()
    monkeypatch.setattr(report_module, "write_json_atomic", full)
    done = ask("--json", "--report", str(tmp_path / "x.json"))
    assert json.loads(done.stdout)["kind"] == "tunedeck selftest"
    assert "No space left on device" in done.stderr
    assert done.exit_code == ExitCode.DISK


def test_progress_counts_and_does_not_repeat_the_page(ran, record):
    made = record()
    for step in made.steps[2:]:
        items = tuple(Item(finding.name, "", "", 1.0) for finding in step.findings if finding.name != settings.NAME)
        step.step = replace(step.step, alone=True, items=items)
    ran(made)
    done = ask()
    assert "  1 of 1 after 12 s\n" in done.stderr
    assert "Memory …" in done.stderr
    assert done.stderr.count(" after ") == 1, "what did not run is not counted"
    shown = [line.strip() for line in done.stderr.splitlines()]
    assert not {line.strip() for line in done.stdout.splitlines() if line.strip()} & set(shown)
    assert not [finding.name for finding in made.findings if finding.name in done.stderr]


def test_a_report_beside_the_result(ran, tmp_path):
    ran()
    done = ask("--json", "--report", str(tmp_path / "x.json"))
    assert json.loads(done.stdout)["exit_code"] == done.exit_code == 0
    assert [path.name for path in tmp_path.glob("*x.json*")] == ["x.json"]


def test_without_a_gpu_the_advice_is_this_command_s_own_option(machine):
    with pytest.raises(EngineError) as caught:
        place_of(machine, "cuda")
    assert "--device cpu" in caught.value.hint
    assert "launch" not in caught.value.hint


def test_an_unwritable_state_home_names_the_self_test_s_folder(record, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/x")
    with pytest.raises(EngineError, match="the self-test's folder") as caught:
        new_record(record().plan)
    assert caught.value.where == "/proc/x/tunedeck/selftest"
