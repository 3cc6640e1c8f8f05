"""When a neighbour counts as faster than the recommended setting."""

from __future__ import annotations

import pytest

from engine.selftest.checks import FAILED, PASSED, SKIPPED, Finding
from engine.selftest.settings import better, conclude, faster


def measured(*speeds):
    return [
        Finding(f"setting {number}", PASSED if speed else FAILED, "", {"tokens_per_second": speed})
        for number, speed in enumerate(speeds)
    ]


@pytest.mark.parametrize(
    ("device", "speeds", "status"),
    [
        ("cuda", (1000, 900, 1050), PASSED),
        ("cuda", (1000, 900, 1150), FAILED),
        ("cpu", (1000, 1150), PASSED),
        ("cpu", (1000, 1300), FAILED),
        ("cuda", (1000, 0), SKIPPED),
        ("cuda", (0, 1000, 900), SKIPPED),
        ("cuda", (1000,), SKIPPED),
        ("cuda", (), SKIPPED),
    ],
)
def test_only_what_is_surely_faster_counts(device, speeds, status):
    found = conclude(measured(*speeds), device)
    assert found.status == status
    assert (faster(measured(*speeds), device) is not None) == (status == FAILED)
    if status == FAILED:
        assert f"{found.figures['times_as_fast']:.2f} times as fast" in found.text


def test_of_two_runs_the_faster_counts():
    slow, fast = measured(900, 1000)
    assert better(slow, fast) is fast
    assert better(fast, slow) is fast
