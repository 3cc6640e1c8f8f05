"""Whether one evaluation is better than another is said with its interval, over the same batches."""

from __future__ import annotations

import pytest

from engine.evaluate.bootstrap import Change
from engine.runs.view import describe
from engine.train.noise import Scored, difference, told

ITEMS = (100, 80, 120, 100, 90, 110)


def scored(step: int, per_item: float, *wobble: float) -> Scored:
    losses = [count * (per_item + more) for count, more in zip(ITEMS, wobble or (0.0,) * 6, strict=True)]
    return Scored(step, tuple(losses), ITEMS)


def change(before: Scored, after: Scored) -> Change:
    found = difference(before, after)
    assert found is not None
    return found


def test_an_even_gain_is_sure_and_one_from_a_single_batch_is_not() -> None:
    before = scored(10, 1.5)
    even = change(before, scored(20, 1.4))
    assert even.delta == pytest.approx(-0.1)
    assert even.high < 0
    lucky = change(before, scored(20, 1.5, -0.9, 0.02, 0.03, 0.02, 0.01, 0.02))
    assert lucky.delta < 0 < lucky.high
    assert "could be chance" in told(scored(20, 1.49), before, change(scored(20, 1.49, *(0.2, -0.2) * 3), before))
    assert told(scored(20, 1.4), before, change(scored(20, 1.4), before)) == ""


def test_other_rows_or_too_few_batches_tell_nothing() -> None:
    before = scored(10, 1.5)
    assert difference(None, before) is None
    assert difference(before, Scored(20, before.losses, (1, *ITEMS[1:]))) is None
    assert difference(Scored(10, (1.0,) * 4, (2,) * 4), Scored(20, (0.5,) * 4, (2,) * 4)) is None


def test_the_line_of_an_evaluation_says_it() -> None:
    event = {
        "type": "eval",
        "step": 20,
        "loss": 1.4,
        "best": True,
        "against": 10,
        "change": -0.1,
        "low": -0.2,
        "high": 0.1,
    }
    assert describe(event) == (
        "evaluated at step 20: loss 1.4000, best so far (-0.1000 [-0.2000, +0.1000] against step 10, could be chance)"
    )
    small = event | {"change": -1.2e-5, "low": -2e-5, "high": -4e-6}
    assert "(-1.2e-05 [-2.0e-05, -4.0e-06] against step 10)" in describe(small)
    assert describe({"type": "eval", "step": 20, "loss": 1.4, "low": "x"}) == "evaluated at step 20: loss 1.4000"
