"""The time that a run still takes: its steps, and evaluations and checkpoints that are due."""

from __future__ import annotations

import pytest

from engine.measure import meter
from engine.measure.meter import Meter, times_due


@pytest.mark.parametrize(
    ("every", "at", "last", "count"),
    [(10, 1, 25, 3), (10, 10, 25, 3), (10, 11, 25, 2), (10, 25, 25, 1), (10, 21, 30, 1), (0, 1, 25, 0), (50, 1, 25, 1)],
)
def test_what_is_still_due_counts_the_present_and_the_last_step(every, at, last, count):
    assert times_due(every, at, last) == count
    due = [step for step in range(at, last + 1) if every and (step % every == 0 or step == last)]
    assert count == len(due)


def test_the_time_left_at_half_of_a_run_is_what_it_then_takes(monkeypatch):
    """Slow first steps, evaluations as long as five steps, checkpoints, a short step at each epoch's end."""
    now, clock_at = [0.0], {}
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    clock, last, told = Meter(), 120, {}
    for number in range(1, last + 1):
        now[0] += {1: 8.0, 2: 3.0}.get(number, 0.5 if number % 12 == 0 else 1.0)
        clock.end_step()
        due = {kind: times_due(every, number, last) for kind, every in {"evaluate": 12, "checkpoint": 30}.items()}
        told[number], clock_at[number] = clock.take(last - number, due)["eta_s"], now[0]
        for kind, every, seconds in (("evaluate", 12, 5.0), ("checkpoint", 30, 2.0)):
            if number % every == 0 or number == last:
                now[0] += seconds
                clock.add_pause(kind, seconds)
        clock.restart()
    for number in (30, 60, 90):
        assert told[number] == pytest.approx(now[0] - clock_at[number], rel=0.1)
    assert told[last] == pytest.approx(7.0)
