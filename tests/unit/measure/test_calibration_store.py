"""The file of what runs on this machine measured: what stays in it, who writes at once, and what is damaged."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.measure import calibrate
from engine.measure.calibrate import join, keep
from engine.memory.calibration import Measurement, model_key
from engine.memory.calibration_store import MOST_RECORDS, calibration_path, decode, read_records
from engine.memory.shape import GIB, MIB, TrainingShape
from engine.models.catalog import catalog_index

SPEC = catalog_index()["smollm2-135m-instruct"]


def measurement(index=0, **changes):
    shape = TrainingShape(max_length=256 + index)
    found = Measurement(model_key(SPEC), shape, "2026-11-24", 2 * GIB, GIB, GIB, 400 * MIB, 10.0, 20.0)
    return replace(found, **changes)


def no_warning(code, message):
    raise AssertionError(f"{code}: {message}")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return calibration_path("GPU-1")


def test_the_newest_configurations_stay_and_the_file_is_private(path):
    for index in range(MOST_RECORDS + 5):
        keep(path, measurement(index), {"torch": "1"}, no_warning)
    lengths = [record["shape"]["max_length"] for record in read_records(path)]
    assert lengths == list(range(256 + 5, 256 + 5 + MOST_RECORDS))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_same_configuration_is_one_record_for_each_set_of_versions(path):
    for torch_version in ("1", "2", "1"):
        keep(path, measurement(), {"torch": torch_version}, no_warning)
    assert [record["software"]["torch"] for record in read_records(path)] == ["2", "1"]


def test_runs_that_end_together_lose_nothing(path):
    """Processes of their own: POSIX locks are a process's, and threads that fork at once are refused by filelock 4."""
    command = [sys.executable, "-c", _KEEPS, str(path)]
    kept = ["1", "2", "3", "4"]
    processes = [subprocess.Popen([*command, number], cwd=Path(__file__).parents[3]) for number in kept]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    found = sorted(record["shape"]["max_length"] for record in read_records(path))
    assert found == sorted(100 * int(number) + index for number in kept for index in range(8))


_KEEPS = """
import sys
from pathlib import Path
from engine.memory.calibration import Measurement
from engine.memory.shape import TrainingShape
from engine.measure.calibrate import keep
for index in range(8):
    shape = TrainingShape(max_length=100 * int(sys.argv[2]) + index)
    keep(Path(sys.argv[1]), Measurement("demo", shape, "2026-11-24", 2, 1, 1, 1, 10.0, 20.0), {"torch": "1"}, print)
"""


def test_a_run_waits_for_others_on_a_slow_disk(path, monkeypatch):
    """A network home takes seconds for each write; the last of several runs waits for all of them."""
    now, take = [0.0], calibrate.acquire
    monkeypatch.setattr(calibrate.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(calibrate.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(calibrate, "acquire", lambda lock: take(lock) if now[0] > 30.0 else None)
    keep(path, measurement(), {"torch": "1"}, no_warning)
    assert len(read_records(path)) == 1


def test_a_file_held_for_long_is_an_error_that_a_run_survives(path, monkeypatch):
    monkeypatch.setattr(calibrate, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(calibrate, "acquire", lambda _: None)
    with pytest.raises(OSError, match="held by another run"):
        keep(path, measurement(), {}, no_warning)


def test_a_damaged_file_is_set_aside_with_a_warning(path):
    path.parent.mkdir(parents=True)
    path.write_text("{")
    told = []
    keep(path, measurement(), {}, lambda code, message: told.append(code))
    assert told == ["calibration_damaged"]
    assert path.with_suffix(".damaged").read_text() == "{"
    assert decode(read_records(path)[0]) == measurement()


def test_two_runs_of_one_configuration_join_to_the_higher_peaks():
    old, new = measurement(reserved_bytes=3 * GIB), measurement(allocated_bytes=2 * GIB, tokens_per_second=None)
    both = join(old, new)
    assert (both.reserved_bytes, both.allocated_bytes, both.tokens_per_second) == (3 * GIB, 2 * GIB, 10.0)
    died = measurement(out_of_memory=True, reserved_bytes=GIB)
    assert join(old, died) == old, "it had less this time than a good run took"
    assert join(died, new) == new
    died = replace(died, reserved_bytes=4 * GIB)
    assert join(old, died) == died
