"""Screen 3 on recorded runs: every size, re-attaching, asking the worker, failures, two decks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.widgets import Log

from engine.runs.events import EventWriter
from engine.runs.record import record_of
from engine.runs.store import Run
from tests.tui.conftest import SIZES, attached, deck, make_run, record, screen_text, shows, until, worker_alive
from tui.app import DeckApp
from tui.reading.snapshot import make_facts, short_name
from tui.reading.tail import RunReader
from tui.run.screen import RunScreen


@pytest.mark.parametrize("size", SIZES)
async def test_a_recorded_run_is_shown_whole(size: tuple[int, int]) -> None:
    run = make_run()
    record(run, outcome="completed")
    app = attached(run)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "support-bot", "completed", "step 200 of 400", "loss 1.", "predicted", "38.0", "┤")
        text = screen_text(app)
        assert all(cell_len(line) <= size[0] for line in text.splitlines())
        assert len(text.splitlines()) == size[1]
        assert "? help" in text.splitlines()[-1]
        if size[1] >= 24:
            assert "eval 1." in text
            assert "+5.3 %" in text
            assert "checkpoint step 200 saved, 161.0 MiB (schedule)" in text
            assert "○" in text
        if size[1] >= 34:
            assert "learning rate" in text
            assert "tokens per second" in text


async def test_a_running_run_takes_requests_and_can_be_left() -> None:
    run = make_run()
    record(run, 20, 400)
    with worker_alive(run):
        app = attached(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(pilot, "training", "step 20 of 400", "eta", "runs on without this window", "last event")
            await pilot.press("c", "v")
            await until(pilot, lambda: (run.path / "control" / "evaluate").exists())
            assert (run.path / "control" / "checkpoint").exists()
            await pilot.press("x")
            await shows(pilot, "saves a checkpoint at step 21")
            await pilot.press("n")
            assert not (run.path / "control" / "stop").exists()
            await pilot.press("x", "y")
            await until(pilot, lambda: (run.path / "control" / "stop").exists())
            await shows(pilot, "stopping")
            await pilot.press("q")
        assert app.return_code == 0


async def test_new_events_appear_and_the_log_follows() -> None:
    run = make_run()
    record(run, 20, 400)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "step 20 of 400")
        writer = EventWriter(run.events_path)
        writer.write("train_step", step=21, steps_total=400, loss=0.5, epoch=0.21)
        for number in range(60):
            writer.write("warning", code="x", message=f"line {number}")
        await shows(pilot, "step 21 of 400", "loss 0.5000", "warning: line 59", "60 warnings")
        log = app.screen.query_one(Log)
        log.scroll_home(animate=False)
        writer.write("warning", code="x", message="one more")
        await shows(pilot, "61 warnings", "log not following (G)")
        assert "one more" not in screen_text(app)
        await pilot.press("G")
        await shows(pilot, "one more")


async def test_a_line_that_comes_just_after_scrolling_up_moves_nothing() -> None:
    run = make_run()
    record(run, 20, 400)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "step 20 of 400")
        writer = EventWriter(run.events_path)
        for number in range(60):
            writer.write("warning", code="x", message=f"line {number}")
        await shows(pilot, "warning: line 59")
        log = app.screen.query_one(Log)
        log.write_lines(["a line under way"])
        log.scroll_home(animate=False, immediate=True)
        log.write_lines(["the next"])
        assert isinstance(app.screen, RunScreen)
        app.screen.log_pane._lines_seen -= 1
        app.screen._show()
        await pilot.pause(0.2)
        assert log.scroll_y == 0
        assert "log not following (G)" in screen_text(app)


async def test_pause_holds_the_view_while_reading_goes_on() -> None:
    run = make_run()
    record(run, 20, 400)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "step 20 of 400")
        await pilot.press("p")
        await shows(pilot, "view held still (p)")
        EventWriter(run.events_path).write("train_step", step=21, steps_total=400, loss=0.5)
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await until(pilot, lambda: screen.follower.latest is not None and screen.follower.latest.step == 21)
        assert "step 20 of 400" in screen_text(app)
        await pilot.press("p")
        await shows(pilot, "step 21 of 400")


async def test_zoom_and_log_take_the_screen_and_give_it_back() -> None:
    run = make_run()
    record(run)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "memory, GPU", "checkpoint step 200")
        await pilot.press("z")
        await until(pilot, lambda: "memory, GPU" not in screen_text(app))
        await pilot.press("escape", "l")
        await until(pilot, lambda: "training on GPU 1" in screen_text(app) and "┤" not in screen_text(app))
        await pilot.press("escape")
        await shows(pilot, "memory, GPU", "┤")


async def test_preparation_is_shown_with_progress() -> None:
    run = make_run()
    writer = EventWriter(run.events_path)
    writer.write("phase", name="load", detail="weights")
    writer.write("phase", name="data", detail="train.jsonl")
    writer.write("progress", phase="data", done=3400, total=9981, unit="rows")
    with worker_alive(run):
        app = attached(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(pilot, "✓ loading the model", "→ reading data", "3,400 of 9,981 rows", "███")


async def test_a_failed_run_shows_every_problem() -> None:
    run = make_run()
    record(run, 10, 20)
    writer = EventWriter(run.events_path)
    problems = [{"where": "train.jsonl, row 3", "message": "has no answer"}, {"where": "row 9", "message": "is empty"}]
    writer.write("error", code="data", message="train.jsonl: 2 problems", problems=problems)
    writer.write("finished", outcome="failed", step=10, exit_code=3, seconds=3)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "failed", "2 problems", "row 3 - has no answer", "row 9 - is empty", "worker.log")


async def test_a_run_that_cannot_start_tells_why_and_leaves_nothing() -> None:
    run = make_run()
    dying = (
        "import sys; from pathlib import Path; from engine.runs.events import EventWriter; "
        "w = EventWriter(Path(sys.argv[1])); "
        "w.write('error', code='model', message='no such model', hint='give a directory'); "
        "w.write('finished', outcome='failed', exit_code=4)"
    )
    process = subprocess.Popen([sys.executable, "-c", dying, str(run.events_path)])
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        app.attach(run, process)
        await shows(pilot, "not started", "no such model", "give a directory", "nothing of it was kept")
        assert not run.path.exists()


async def test_attaching_to_another_run_replaces_everything() -> None:
    first, second = make_run("first"), make_run("second")
    record(first, 50, 60)
    record(second, 10, 99)
    app = attached(first)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "first", "step 50 of 60")
        app.switch_mode("runs")
        app.attach(second)
        await shows(pilot, "second", "step 10 of 99")
        assert "evaluated at step 50" not in screen_text(app)


async def test_two_decks_follow_one_run() -> None:
    run = make_run()
    record(run, 30, 90)
    one, other = attached(run), attached(run)
    async with one.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "step 30 of 90")
    async with other.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "step 30 of 90")
        EventWriter(run.events_path).write("train_step", step=31, steps_total=90, loss=1.0)
        await shows(pilot, "step 31 of 90")
    texts = []
    for _ in range(2):
        again = attached(run)
        async with again.run_test(size=(80, 24)) as pilot:
            await shows(pilot, "step 31 of 90", "┤")
            texts.append(screen_text(again).splitlines()[:14])
    assert texts[0] == texts[1]


async def test_copy_writes_the_log_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    run = make_run()
    record(run, 60)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "checkpoint step 50")
        await pilot.press("y")
        await until(pilot, lambda: (run.path / "deck-log.txt").exists())
        assert "checkpoint step 50 saved" in (run.path / "deck-log.txt").read_text()
        assert "checkpoint step 50 saved" in app.clipboard


def test_a_resumed_run_draws_its_curve_once() -> None:
    run = make_run()
    record(run, 100, 200)
    writer = EventWriter(run.events_path)
    writer.write("started", run=run.id, steps_total=200, resumed_from_step=50)
    for step in range(51, 61):
        writer.write("train_step", step=step, steps_total=200, loss=1.0, learning_rate=1e-4)
    reader = RunReader(run)
    while reader.read():
        pass
    shot = reader.snapshot("running")
    assert [point.x for point in shot.curves.loss] == list(range(1, 61))
    assert [point.x for point in shot.curves.learning_rate] == list(range(1, 61))
    assert shot.step == 60


def test_a_damaged_run_json_still_attaches(tmp_path: Path) -> None:
    run = Run("20260101-101010-broken-1f3a", tmp_path)
    (tmp_path / "run.json").write_text("{")
    assert RunReader(run).snapshot("lost").facts.name == "broken-1f3a"
    assert make_facts("x", record_of({"schema_version": 1, "settings": 3, "estimate": [], "other": None})).name == "x"
    assert short_name("by-hand") == "by-hand"


async def test_an_empty_run_screen_says_what_to_do() -> None:
    app = DeckApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await shows(pilot, "no run is attached")


def test_a_run_that_is_deleted_while_its_state_is_read_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    reader = RunReader(run)
    shutil.rmtree(run.path)
    monkeypatch.setattr(Path, "is_dir", lambda path: True)  # it was there a moment ago
    assert reader.state() == "removed"
