"""The tracker and the allocator's model against what somebody measured on one T4; nothing was fitted to it."""

from __future__ import annotations

import pytest

from engine.memory.allocator import replay
from engine.memory.shape import MIB
from tests.unit.oracle.published_steps import MEASURED, simulate_row


@pytest.fixture(scope="module")
def errors() -> list[tuple[float, float]]:
    """Signed relative errors of the peak allocated and of the peak reserved memory, row by row."""
    found = []
    for row in MEASURED:
        simulated = simulate_row(row)
        reserved = replay(simulated.trace).peak_reserved_bytes / MIB
        found.append((simulated.allocated / row.allocated - 1, reserved / row.reserved - 1))
    return found


def mean_size(errors: list[float]) -> float:
    return sum(abs(error) for error in errors) / len(errors)


@pytest.mark.slow
def test_allocated_memory_of_seventeen_published_runs(errors: list[tuple[float, float]]) -> None:
    allocated = [error for error, _ in errors]
    assert mean_size(allocated) <= 0.005
    assert min(allocated) >= -0.012
    assert sum(abs(error) < 1e-4 for error in allocated) >= 7, "seven rows are exact to a hundredth of a percent"


@pytest.mark.slow
def test_reserved_memory_of_seventeen_published_runs(errors: list[tuple[float, float]]) -> None:
    """Two 4-bit rows stay more than 3 % below: 52 MiB of 1,192 (-4.4 %) and 238 of 7,548 (-3.2 %).

    How the loader left the cache before the first step is not published, and moves these rows by as much.
    """
    reserved = [error for _, error in errors]
    assert mean_size(reserved) <= 0.02
    assert sum(error < -0.03 for error in reserved) <= 2
    assert min(reserved) >= -0.045
    assert sum(abs(error) < 1e-4 for error in reserved) >= 3, "three rows are exact"
