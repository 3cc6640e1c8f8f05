"""What goes wrong in a run is said while it does, and not before or after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from engine.runs.health import RISES, SETTLED_STEPS, Concern, HealthFold

GIB = 1024**3


def folded(events: Iterable[dict[str, Any]], planned: float | None = None) -> HealthFold:
    health = HealthFold(planned)
    for event in events:
        health.apply(event)
    return health


def step(number: int, **fields: Any) -> dict[str, Any]:
    plain = {"loss": 1.0, "grad_norm": 0.5, "tokens_per_second": 1000.0, "step_s": 1.0}
    return {"type": "train_step", "t": 1000.0 + number, "step": number, **plain, **fields}


def steps(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [step(number, **fields) for number in range(1, count + 1)]


def evaluations(*losses: float) -> list[dict[str, Any]]:
    return [{"type": "eval", "t": 2000.0, "step": 10 * index, "loss": loss} for index, loss in enumerate(losses)]


def memory(count: int, every_s: float = 1.0, **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "memory", "t": 1000.0 + every_s * number, **fields} for number in range(count)]


def seen(health: HealthFold, now_s: float = 1000.0, *, live: bool = True) -> dict[str, Concern]:
    return {one.code: one for one in health.concerns(now_s, live=live)}


def test_a_run_that_learns_has_no_concerns() -> None:
    falling = [step(number, loss=4.0 / number**0.5) for number in range(1, 400)]
    assert seen(folded([*falling, *evaluations(2.0, 1.5, 1.6, 1.4)], planned=1000.0)) == {}


def test_a_loss_that_runs_away_is_named_with_its_best() -> None:
    health = folded([*steps(60, loss=1.0), *(step(number, loss=9.0) for number in range(61, 90))])
    found = seen(health)["loss_rises"]
    assert "times its best (1 at step" in found.text
    assert "train.learning_rate" in found.hint
    assert "loss_rises" not in seen(folded([*steps(SETTLED_STEPS - 2, loss=1.0), step(99, loss=90.0)]))


def test_the_noise_of_a_loss_that_is_nearly_nothing_is_no_concern() -> None:
    learned = [step(number, loss=max(0.001, 3.0 - number * 0.1)) for number in range(1, 60)]
    assert seen(folded([*learned, *(step(number, loss=0.02) for number in range(60, 80))])) == {}
    assert "loss_rises" in seen(folded([*learned, *(step(number, loss=2.0) for number in range(60, 80))]))


def test_a_loss_below_zero_is_never_astray() -> None:
    assert seen(folded([*steps(60, loss=-1.0), *(step(number, loss=5.0) for number in range(61, 90))])) == {}


def test_evaluations_that_rise_three_times_in_a_row() -> None:
    found = seen(folded(evaluations(1.5, 1.2, 1.3, 1.4, 1.5)))["evaluation_rises"]
    assert "rose 3 times in a row, to 1.5000; best 1.2000 at step 10" in found.text
    assert found.step == 10
    assert RISES == 3
    assert seen(folded(evaluations(1.2, 1.3, 1.4))) == {}
    assert seen(folded(evaluations(1.2, 1.3, 1.4, 1.4, 1.5))) == {}


def test_a_comparison_of_base_and_tuned_is_no_evaluation_of_the_run() -> None:
    rising = [{**event, "model": "base"} for event in evaluations(1.0, 1.1, 1.2, 1.3)]
    assert seen(folded(rising)) == {}


def test_a_gradient_spike_is_shown_for_some_steps() -> None:
    spiked = [*steps(40), step(41, grad_norm=12.0)]
    found = seen(folded(spiked))["gradient_spike"]
    assert found.text == "the gradient was 12 at step 41, 24 times the usual"
    assert "gradient_spike" not in seen(folded([*spiked, *(step(number) for number in range(42, 64))]))
    assert seen(folded([*steps(5), step(6, grad_norm=99.0)])) == {}, "the first gradients are large"


def test_a_gradient_no_larger_than_the_first_ones_is_no_spike() -> None:
    falling = [step(number, grad_norm=max(0.03, 4.0 / number)) for number in range(1, 150)]
    assert seen(folded([*falling, step(150, grad_norm=1.3)])) == {}
    assert "gradient_spike" in seen(folded([*falling, step(150, grad_norm=5.0)]))


def test_speed_is_held_against_the_plan() -> None:
    found = seen(folded(steps(40, tokens_per_second=500.0), planned=1000.0))["slow"]
    assert found.text == "500 tokens/s, 50% below the plan (1,000)"
    assert seen(folded(steps(40, tokens_per_second=650.0), planned=1000.0)) == {}
    assert seen(folded(steps(40, tokens_per_second=1.0))) == {}, "nothing was planned"


@pytest.mark.parametrize(("words", "told"), [(["heat"], True), (["power limit"], False), ([], False), ("heat", False)])
def test_a_card_that_is_slowed_down_for_ten_looks(words: Any, told: bool) -> None:
    assert ("card_slowed" in seen(folded(memory(10, slowed_by=words)))) == told
    assert seen(folded([*memory(9, slowed_by=words), *memory(1)])) == {}


def test_a_disk_that_fills_says_when() -> None:
    filling = [{"type": "memory", "t": 1000.0 + 10 * n, "disk_free_bytes": (100 - n) * GIB} for n in range(60)]
    assert "the disk is full in 6 min" in seen(folded(filling))["disk_full"].text
    slow = [{**event, "disk_free_bytes": 1000 * GIB - index} for index, event in enumerate(filling)]
    assert seen(folded(slow)) == {}
    assert seen(folded(filling[:3])) == {}, "two looks are no trend"


def test_a_disk_without_room_for_a_checkpoint() -> None:
    saved = {"type": "checkpoint", "t": 1000.0, "step": 10, "bytes": 3 * GIB}
    found = seen(folded([saved, *memory(1, disk_free_bytes=5 * GIB)]))["disk_full"]
    assert found.text == "the disk has 5.0 GiB left, a checkpoint takes 3.0 GiB"


def test_silence_while_it_trains() -> None:
    health = folded(steps(40))
    assert seen(health, 1040.0 + 299) == {}
    assert "no event for 5 min" in seen(health, 1040.0 + 301)["silent"].text
    slow = folded(steps(40, step_s=60.0))
    assert "silent" not in seen(slow, 1040.0 + 1000)
    waiting = folded([*steps(40), {"type": "phase", "t": 1050.0, "name": "export"}])
    assert "silent" not in seen(waiting, 9999.0)


def test_a_run_that_is_over_has_no_health() -> None:
    assert seen(folded(steps(40)), 9999.0, live=False) == {}


def test_what_went_wrong_stays_known_by_its_step() -> None:
    spiked = [*steps(22, grad_norm=1.0), step(23, grad_norm=50.0), *(step(number) for number in range(24, 70))]
    health = folded([*spiked, *evaluations(1.0, 1.1, 1.2, 1.3, 1.4), {"type": "finished"}])
    assert [(one.code, one.step) for one in health.history] == [("gradient_spike", 23), ("evaluation_rises", 30)]
    assert seen(health, live=False) == {}
    health.apply({"type": "started", "resumed_from_step": 25})
    assert [one.code for one in health.history] == ["gradient_spike"]


def test_a_resumed_run_begins_anew() -> None:
    bad = [*steps(60, loss=1.0), *(step(number, loss=9.0) for number in range(61, 90)), *evaluations(1, 2, 3, 4)]
    assert {"loss_rises", "evaluation_rises"} <= seen(folded(bad)).keys()
    again = {"type": "started", "t": 3000.0, "resumed_from_step": 10}
    assert seen(folded([*bad, again])) == {}


@pytest.mark.parametrize("value", [None, "x", True, float("nan"), [], {}])
def test_events_of_any_shape_are_taken(value: Any) -> None:
    events = [*steps(30, loss=value, grad_norm=value, tokens_per_second=value, step_s=value)]
    events += [{"type": "eval", "t": value, "step": value, "loss": value}] * 5
    events += memory(12, slowed_by=value, disk_free_bytes=value)
    events += [{"type": "checkpoint", "bytes": value}, {"type": "started", "resumed_from_step": value}, {"type": value}]
    assert seen(folded(events, planned=10.0)) == {}
