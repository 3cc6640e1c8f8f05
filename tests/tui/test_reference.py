"""A finished run under the live one: which can be, what the difference is in words, and the keys for it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from engine.runs.events import EventWriter
from engine.runs.store import Run
from tests.tui.conftest import attached, make_run, record, screen_text, shows, until, worker_alive
from tui.charts.decimate import Point
from tui.reading.snapshot import Curves, Facts, RunSnapshot
from tui.run.reference import Reference, difference, find_candidates

SETTINGS: dict[str, Any] = {
    "name": "x",
    "model": {"name_or_path": "demo", "dtype": "bf16"},
    "tuning": {"method": "lora"},
    "train": {"objective": "sft"},
    "data": {"datasets": [{"path": "demo:dates.train.jsonl", "split": "train"}]},
}


def settings(objective: str = "sft", path: str = "demo:dates.train.jsonl") -> dict[str, Any]:
    found = copy.deepcopy(SETTINGS)
    found["train"]["objective"] = objective
    found["data"]["datasets"][0]["path"] = path
    return found


def finished(name: str, **kind: str) -> Run:
    run = make_run(name, settings(**kind))
    record(run, 100, 100, "completed")
    return run


def search(run: Run, best: Run) -> None:
    """A sweep whose best trial is `best`, and `run` one of its trials."""
    sweep = run.path.parents[1] / "sweeps" / "20260101-000000-search-1f3a"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text(json.dumps({"v": 1, "metric": "eval_loss"}))
    trials = [{"trial": 0, "state": "completed", "value": 0.5, "run": best.id}, {"trial": 1, "state": "running"}]
    (sweep / "trials.json").write_text(json.dumps({"v": 1, "trials": trials}))
    found = json.loads((run.path / "run.json").read_text())
    found["sweep"] = {"id": sweep.name, "trial": 1, "params": {}}
    (run.path / "run.json").write_text(json.dumps(found))


def level(loss: float, steps: int = 200) -> tuple[Point, ...]:
    return tuple(Point(x, loss, loss, loss) for x in range(0, steps + 1, 10))


@pytest.mark.parametrize(
    ("loss", "cursor", "words"),
    [
        (0.88, 120.0, "12 % below demo-c512 at step 120"),
        (1.5, None, "50 % above demo-c512 at step 150"),
        (1.001, 35.0, "level with demo-c512 at step 35"),
        (30.0, 20.0, "29 times above demo-c512 at step 20"),
        (0.5, 190.0, "50 % below demo-c512 at its end, step 180"),
    ],
)
def test_the_difference_at_the_same_step_in_words(loss: float, cursor: float | None, words: str) -> None:
    shot = RunSnapshot(Facts("a", "a"), step=150, curves=Curves(smooth=level(loss)))
    assert difference(shot, Reference("b", "demo-c512", Curves(smooth=level(1.0)), 180), cursor) == words
    long = Reference("b", "smollm2-135m-instruct-1f3a", Curves(smooth=level(1.0)), 180)
    assert "-1f3a at " in difference(shot, long, cursor, 16)
    assert len(difference(shot, long, cursor, 16)) <= len(words) + 7


def test_a_run_that_means_something_else_says_why_and_the_best_trial_comes_first() -> None:
    alike, other_task, other_data = (
        finished("alike"),
        finished("dpo", objective="dpo"),
        finished("data", path="a.jsonl"),
    )
    best = finished("best")
    mine = make_run("live", settings())
    search(mine, best)
    with worker_alive(make_run("other-live", settings())):
        found = {one.run.id: one for one in find_candidates(mine)}
    assert set(found) == {best.id, alike.id, other_task.id, other_data.id}
    assert next(iter(found.values())).run.id == best.id
    assert found[best.id].best
    assert found[alike.id].problem == ""
    assert found[other_task.id].problem == "another task: dpo"
    assert found[other_data.id].problem == "another data set"


async def test_b_lays_a_finished_run_under_the_live_one(cpu_machine: object) -> None:
    best = finished("alike")
    finished("data", path="a.jsonl")
    live = make_run("live", settings())
    search(live, best)
    record(live, 40, 100)
    app = attached(live)
    with worker_alive(live):
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await shows(pilot, "step 40 of 100")
            await pilot.press("b")  # the best trial of its sweep, without a question
            await shows(pilot, "level with alike", "at step 40")
            await pilot.press("B")
            await shows(pilot, "Lay under this run", "best trial of this sweep", "not comparable: another data set")
            await pilot.press("down", "enter")
            await until(pilot, lambda: any("cannot be compared" in str(one.message) for one in app._notifications))
            EventWriter(live.events_path).write("train_step", step=41, steps_total=100, loss=9.0)
            await shows(pilot, "above alike", "at step 41")
            await pilot.press("T")
            await shows(pilot, "above alike", "▸ loss")
            await pilot.press("T", "b")
            await until(pilot, lambda: "above alike" not in screen_text(app))
            await pilot.press("b", "z")
            await shows(pilot, "above alike", "r reference")
