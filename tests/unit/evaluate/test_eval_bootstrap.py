"""Intervals and verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.evaluate import bootstrap
from engine.evaluate.bootstrap import Change, paired_change, verdict
from engine.evaluate.compare import Measured, compare
from engine.inference.losses import RowLoss

NAMES = {"nll": "perplexity", "rougeL": "ROUGE-L"}


def test_interval_is_that_of_the_mean() -> None:
    noise = np.random.default_rng(1).normal(0.3, 1.0, 400)
    change = paired_change("x", np.zeros(400), noise)
    half = 1.96 * noise.std() / 20
    assert change.delta == pytest.approx(noise.mean())
    assert change.low == pytest.approx(noise.mean() - half, abs=0.15 * half)
    assert change.high == pytest.approx(noise.mean() + half, abs=0.15 * half)


def test_rows_are_weighted_by_their_tokens() -> None:
    # 100 tokens that lost 1 nat each, and one token that gained 50: per token nearly 1 nat is lost.
    change = paired_change("nll", [200.0, 60.0], [300.0, 10.0], [100, 1], better=-1)
    assert change.delta == pytest.approx(50 / 101)


def test_intervals_are_weighted_too() -> None:
    noise = np.random.default_rng(5).normal(0.3, 1.0, 50)
    plain = paired_change("x", np.zeros(50), noise)
    heavy = paired_change("x", np.zeros(50), noise, [4.0] * 50)
    assert (heavy.low, heavy.high) == pytest.approx((plain.low / 4, plain.high / 4))


def test_pairing_sees_a_small_steady_gain_in_loud_rows() -> None:
    loud = np.random.default_rng(2).normal(0, 50, 40)
    assert paired_change("x", loud, loud + 0.1).direction == 1
    assert paired_change("nll", loud, loud + 0.1, better=-1).direction == -1


def test_chance_is_no_difference() -> None:
    wrong = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 1, 60)
        wrong += paired_change("x", np.zeros(60), noise).direction != 0
    assert wrong <= 7


def test_the_same_rows_give_the_same_interval_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(0, 1, 64)
    whole = paired_change("x", np.zeros(64), values)
    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 640)
    assert paired_change("x", np.zeros(64), values) == whole


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        paired_change("x", [], [])


def change(name: str, low: float, high: float, better: int = 1) -> Change:
    return Change(name, (low + high) / 2, low, high, better)


@pytest.mark.parametrize(
    ("changes", "word", "why"),
    [
        ([change("nll", -2, -1, -1), change("rougeL", -1, 1)], "better", "perplexity"),
        ([change("nll", 1, 2, -1), change("rougeL", -1, 1)], "worse", "perplexity"),
        ([change("nll", -2, -1, -1), change("rougeL", -3, -1)], "no different", "ROUGE-L worse"),
        ([change("nll", -1, 1, -1), change("rougeL", 0, 0)], "no different", "chance"),
        ([], "no different", "chance"),
    ],
)
def test_verdict(changes: list[Change], word: str, why: str) -> None:
    found, reason = verdict(changes, 64, NAMES)
    assert found == word
    assert why in reason


def test_few_rows_decide_nothing() -> None:
    assert verdict([change("nll", -2, -1, -1)], 4, NAMES)[0] == "no different"


def test_a_score_on_few_rows_decides_nothing_beside_one_on_many() -> None:
    losses = [RowLoss(1.0, 2)] * 8
    base = Measured(losses=losses, row_scores={"tools_right": [0.0, 0.0]})
    tuned = Measured(losses=losses, row_scores={"tools_right": [1.0, 1.0]})
    found = compare(base, tuned)
    assert (found.verdict, "tools_right" in found.intervals) == ("no different", False)
    enough = replace(base, row_scores={"tools_right": [0.0] * 5}), replace(tuned, row_scores={"tools_right": [1.0] * 5})
    assert compare(*enough).verdict == "better"


def test_without_a_score_of_rows_nothing_is_said_to_be_measured() -> None:
    found = compare(Measured(scores={"bleu": 1.0}), Measured(scores={"bleu": 9.0}))
    assert found.verdict == "not measured"
    assert "0 rows" not in found.verdict_reason
