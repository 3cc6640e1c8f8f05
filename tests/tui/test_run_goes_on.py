"""A run that has ended goes on by a key of its own screen, and says nothing that is no longer so."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from engine.api import runs
from engine.runs.events import EventWriter
from engine.runs.store import Run
from engine.runs.view import RunFold
from tests.tui.conftest import HOLD, SIZES, attached, make_run, record, screen_text, shows, until, worker_alive
from tests.tui.test_older_run import settle_older
from tui.commands import COMMANDS
from tui.frame.session import DeckState
from tui.reading.snapshot import Facts, Progress, RunSnapshot
from tui.run.curve_pane import CurvePane
from tui.run.view import doing, ending, headline, numbers, preparation, status_notes, stop_question

NOW = 1_795_824_000.0
SHOT = RunSnapshot(Facts("20260301-1-demo-aa", "demo"), last_time=NOW - 60)
PACE = {"loss": 0.5, "eta_s": 90.0, "tokens_per_second": 4321.0}


@pytest.mark.parametrize(
    ("state", "saved", "told"),
    [
        ("completed", 40, "done: 5 shows results, chat, export"),
        ("stopped", 40, "stopped; r goes on from step 40"),
        ("failed", 1200, "failed; r goes on from step 1,200, the same way"),
        ("lost", 40, "the worker ended without saying why; r goes on from step 40"),
        ("lost", None, "the worker ended without saying why; nothing was saved: r starts it anew"),
    ],
)
def test_the_end_names_the_key_that_goes_on_and_from_where(state: str, saved: int | None, told: str) -> None:
    assert ending(replace(SHOT, state=state, checkpoint_step=saved)) == told


@pytest.mark.parametrize(
    ("shot", "told"),
    [
        (replace(SHOT, state="starting", asked_at=NOW - 4, last_time=0.0), "starting the worker, 4 s"),
        (replace(SHOT, state="starting", asked_at=NOW - 4, phases=("train",), finished={}), "starting the worker, 4 s"),
        (
            replace(SHOT, state="starting", phase="load", phases=("load",), phase_since=NOW - 75),
            "loading the model, 1 min",
        ),
        (replace(SHOT, state="running", phase="train", phases=("train",), phase_since=NOW - 75), "training"),
        (
            replace(SHOT, state="running", phase="train", phases=("train",), progress=Progress(12, 67, "", "evaluate")),
            "evaluating 12 of 67",
        ),
        (replace(SHOT, state="stopped", phase="load", phase_since=NOW - 75), "stopped"),
        (replace(SHOT, state="running", finished={"t": NOW - 60, "seconds": 9.0}, last_step=PACE), "ending"),
    ],
)
def test_what_it_does_has_a_clock_until_it_trains(shot: RunSnapshot, told: str) -> None:
    assert doing(shot, NOW)[0] == told


def test_a_worker_that_has_told_its_end_has_no_time_left() -> None:
    ended = replace(SHOT, state="running", finished={"t": NOW - 60, "seconds": 9.0}, last_step=PACE)
    assert headline(ended, NOW, 80)[1] == [("took ", "dim"), "9.0 s"]


def test_the_evaluation_before_the_first_step_shows_counts() -> None:
    progress = Progress(24, 67, "sequences", "evaluate")
    shot = replace(SHOT, state="running", phase="evaluate", phases=("check", "evaluate"), progress=progress)
    shown = preparation(replace(shot, phase_since=NOW - 9), NOW, 80).plain
    assert "→ evaluating, 9 s" in shown
    assert "24 of 67 sequences" in shown
    assert "saves a checkpoint at step 1" in stop_question(shot)


def test_a_worker_that_is_awaited_has_no_pace() -> None:
    waits = replace(SHOT, state="starting", asked_at=NOW, finished={}, phases=("train",), last_step=PACE)
    assert "eta" not in "".join(map(str, headline(waits, NOW, 80)))
    assert "4,321" not in numbers(waits, 80).plain
    assert "0.5000" in numbers(waits, 80).plain


def test_a_new_worker_forgets_the_pace_and_the_phases_of_the_one_before() -> None:
    fold = RunFold()
    for name in ("measure", "data", "load", "check", "evaluate", "train"):
        fold.apply({"type": "phase", "name": name, "t": 1.0})
    fold.apply({"type": "train_step", "t": 2.0, "step": 7, **PACE})
    fold.apply({"type": "phase", "name": "save", "t": 3.0})
    assert fold.last_step["eta_s"] == 90.0
    fold.apply({"type": "finished", "outcome": "stopped", "t": 4.0})
    fold.apply({"type": "phase", "name": "data", "t": 9.0})
    assert (fold.phases, fold.phase_since) == (["data"], 9.0)
    assert fold.last_step["loss"] == 0.5
    assert not {"eta_s", "tokens_per_second"} & fold.last_step.keys()
    fold.apply({"type": "phase", "name": "data", "detail": "more", "t": 12.0})
    fold.apply({"type": "phase", "name": "load", "t": 13.0})
    assert (fold.phases, fold.phase_since) == (["data", "load"], 13.0)


def test_the_worker_of_a_deleted_run_is_told_and_can_be_killed() -> None:
    gone = replace(SHOT, state="removed")
    assert ending(gone) == "this run was deleted"
    orphan = replace(gone, orphan_pid=4711)
    assert ending(orphan) == "this run was deleted; its worker 4711 lives on, x kills it"
    assert "nothing of it is kept" in stop_question(orphan)
    stop = COMMANDS.by_id["stop"]
    assert stop.available(DeckState(snapshot=orphan)) is None
    bar = [command.id for command in COMMANDS.key_bar("run", DeckState(snapshot=orphan)) if command.screen]
    assert bar[0] == "stop"
    assert "checkpoint" not in bar
    assert stop.available(DeckState(snapshot=gone)) == "this run is removed: no worker is there to ask"


def test_warnings_name_the_key_that_shows_them() -> None:
    assert status_notes(replace(SHOT, warnings=2), False, True, "")[-1] == "2 warnings (i)"


async def test_a_stopped_run_is_taken_up_again_on_its_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    record(run, 20, 400, outcome="stopped")
    asked: list[Run] = []

    def resume(found: Run, **_: Any) -> subprocess.Popen[bytes]:
        asked.append(found)
        writer = EventWriter(found.events_path)
        writer.write("started", run=found.id, steps_total=400, resumed_from_step=20)
        writer.write("train_step", step=21, steps_total=400, loss=0.9)
        return subprocess.Popen([sys.executable, "-c", HOLD, str(found.lock_path)], stdout=subprocess.DEVNULL)

    monkeypatch.setattr(runs, "resume_run", resume)
    app = attached(run)
    async with app.run_test(size=SIZES[1]) as pilot:
        await shows(pilot, "stopped; nothing was saved: r starts it anew", "r resume  5 results  i overview")
        EventWriter(run.events_path).write("checkpoint", step=20, bytes=10, reason="stopping")
        await shows(pilot, "stopped; r goes on from step 20")
        await pilot.press("r")
        await shows(pilot, "step 21 of 400")
        assert asked == [run]
        await until(pilot, lambda: app.deck.process is not None)
        assert app.deck.process is not None
        app.deck.process.kill()
        app.deck.process.wait()


async def test_a_complete_run_says_why_it_is_not_resumed_and_shows_its_own_results() -> None:
    run = settle_older()
    time.sleep(0.01)
    other = make_run("newer")
    record(other, 20, 400)
    app = attached(run)
    async with app.run_test(size=SIZES[0], notifications=True) as pilot:
        await shows(pilot, "done: 5 shows results, chat, export", "? help  5 results")
        assert "checkpoint" not in screen_text(app).splitlines()[-1]
        await pilot.press("r")
        await until(pilot, lambda: any("is complete" in str(one.message) for one in app._notifications))
        await pilot.press("5")
        await shows(pilot, "demo-c9f6")
        assert app.deck.chosen == run


async def test_clocks_of_a_preparation_go_on_and_nothing_else_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    writer = EventWriter(run.events_path)
    writer.write("phase", name="load", detail="weights")
    drawn: list[RunSnapshot] = []
    show = CurvePane.show
    monkeypatch.setattr(CurvePane, "show", lambda pane, shot: (drawn.append(shot), show(pane, shot)))
    with worker_alive(run):
        app = attached(run)
        async with app.run_test(size=SIZES[1]) as pilot:
            await shows(pilot, "→ loading the model, ")
            seen, before = screen_text(app).splitlines(), len(drawn)
            await until(pilot, lambda: screen_text(app).splitlines()[1] != seen[1])
            assert screen_text(app).count("loading the model, ") == 2
            assert [line for line in screen_text(app).splitlines() if "→" in line] != [
                line for line in seen if "→" in line
            ]
            assert len(drawn) == before
