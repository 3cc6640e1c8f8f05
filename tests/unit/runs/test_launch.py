"""The worker's environment: how its threads wait."""

from __future__ import annotations

import pytest

from engine.runs import launch
from engine.runs.record import LaunchSettings


@pytest.mark.parametrize(("percent", "spins"), [(5.0, True), (95.0, False)])
def test_threads_look_for_work_before_they_sleep_only_where_nobody_else_works(
    monkeypatch: pytest.MonkeyPatch, percent: float, spins: bool
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch.psutil, "cpu_percent", lambda seconds: percent)
    found = launch.worker_environment(LaunchSettings("cpu"))
    assert found["OMP_WAIT_POLICY"] == "passive"
    assert ("GOMP_SPINCOUNT" in found) == spins


def test_what_a_person_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    found = launch.worker_environment(LaunchSettings())
    assert found["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in found
