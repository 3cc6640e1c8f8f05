"""The curves of a run: closer, smoother, the values under the crosshair, memory over time, words in a long log."""

from __future__ import annotations

import json
import math
import time
from array import array
from pathlib import Path

import pytest
from textual.widgets import Log

from engine.runs.events import EventWriter
from engine.runs.store import Run
from tests.tui.conftest import GIB, attached, make_run, record, screen_text, shows, until
from tui.charts.chart import ChartData, Level, Series, draw
from tui.charts.decimate import Point, binned, smoothed
from tui.reading.log_search import search_log
from tui.reading.snapshot import RunSnapshot
from tui.reading.tail import RunReader, newest_part
from tui.run.curve_data import chart_data, reading, title_of
from tui.run.curves import CurveView, moved, window, zoomed
from tui.run.screen import RunScreen


def read(run: Run, shown: tuple[float, float] | None = None) -> RunSnapshot:
    reader = RunReader(run)
    while reader.read():
        pass
    reader.window = shown
    return reader.snapshot("completed")


def long_run(steps: int = 4000) -> Run:
    run = make_run()
    with run.events_path.open("w") as file:
        for step in range(1, steps + 1):
            loss = 9.0 if step == 3001 else 1.0 + 1 / step
            event = {"v": 1, "seq": step, "t": step, "type": "train_step", "step": step, "steps_total": steps}
            file.write(json.dumps({**event, "loss": loss, "learning_rate": 1e-4, "grad_norm": step / 1000}) + "\n")
    return run


def test_zoom_shows_single_steps_that_the_whole_curve_cannot() -> None:
    run = long_run()
    shot = read(run)
    assert len(shot.curves.loss) <= 512
    view = CurveView(cursor=3000.0)
    for _ in range(6):
        view = zoomed(shot, view, 0.5)
    shown = window(shot, view)
    assert shown is not None
    assert shown[1] - shown[0] == pytest.approx(4000 / 64, rel=0.05)
    close = read(run, shown)
    points = chart_data(close, view).raw
    assert [point.x for point in points] == list(range(math.ceil(shown[0]), math.floor(shown[1]) + 1))
    assert {point.x: point.mean for point in points}[3001] == 9.0
    assert "zoom" in title_of(close, view)[0][0]
    assert zoomed(shot, view, 1000.0).span is None


def test_the_crosshair_moves_reads_and_drags_the_window() -> None:
    shot = read(long_run())
    view = moved(shot, CurveView(), -0.1)
    assert view.cursor == 4000
    back = moved(shot, view, -0.25)
    assert back.cursor == pytest.approx(3000, abs=20)
    text = reading(shot, back, 200).plain
    assert text.startswith(f"at step {back.cursor:,.0f}")
    assert "loss" in text
    assert "rate 1.00e-04" in text
    close = zoomed(shot, back, 0.1)
    low, high = window(shot, close) or (0, 0)
    assert low < 3000 < high
    for _ in range(8):
        close = moved(shot, close, -0.25)
    dragged = window(shot, close) or (0, 0)
    assert dragged[1] < high
    assert dragged[0] <= (close.cursor or 0) <= dragged[1]
    assert moved(shot, CurveView(cursor=1.0), -5).cursor == 1.0


def test_smoothing_is_less_or_more_but_keeps_the_level() -> None:
    points = tuple(Point(x, y, y, y) for x, y in ((x, 1.0 + (x % 2)) for x in range(400)))
    spreads = []
    for share in (0.02, 0.05, 0.2):
        tail = [point.mean for point in smoothed(points, share)[-100:]]
        assert sum(tail) / 100 == pytest.approx(1.5, abs=0.05)
        spreads.append(max(tail) - min(tail))
    assert spreads[0] > spreads[1] > spreads[2]
    assert smoothed((), 0.1) == ()


def test_bins_lose_no_spike_and_stay_within_their_number() -> None:
    xs, ys = array("d", range(10_000)), array("d", [1.0] * 10_000)
    ys[7777] = 50.0
    points = binned(xs, ys, 5000, 9000, 100)
    assert len(points) <= 100
    assert points[0].x == 5000
    assert max(point.high for point in points) == 50.0
    assert binned(xs, ys, 20_000, 30_000) == ()


def test_memory_over_time_stands_beside_prediction_and_limit() -> None:
    run = make_run()
    writer = EventWriter(run.events_path)
    for number in range(30):
        writer.write(
            "memory",
            device_used_bytes=(10 + number) * GIB,
            process_bytes=(9 + number) * GIB,
            reserved_bytes=(8 + number) * GIB,
            allocated_bytes=7 * GIB,
            device_total_bytes=80 * GIB,
        )
    shot = read(run)
    assert [name for name, _ in shot.curves.memory] == ["device", "process", "reserved", "allocated"]
    data = chart_data(shot, CurveView("memory"))
    assert [series.points[-1].mean for series in data.series] == [39, 38, 37, 7]
    assert [(level.name, level.value) for level in data.levels] == [("predicted", 38.0), ("limit", 80.0)]
    text = reading(shot, CurveView("memory", cursor=0.0), 200).plain
    assert all(
        word in text for word in ("device", "process", "reserved", "allocated", "predicted 38.00", "limit 80.00")
    )


def test_time_is_told_in_its_own_unit() -> None:
    shot = read(make_run())
    view = CurveView("memory", cursor=200_000.0, span=7200.0)
    assert "200,000" not in reading(shot, view, 80).plain
    assert reading(shot, view, 80).plain.startswith("at 2 d 7 h")
    assert title_of(shot, view)[0][0] == "memory, GiB  zoom 2 h 0 min"


def test_levels_and_crosshair_never_hide_a_curve() -> None:
    line = tuple(Point(x, 5.0, 5.0, 5.0) for x in range(100))
    plain = draw(ChartData(series=(Series(line, "bold"),)), 60, 12)
    full = draw(ChartData(series=(Series(line, "bold"),), levels=(Level(5.0, "limit"),), cursor=50.0), 60, 12)

    def bold(rows: list[list[tuple[str, str]]]) -> int:
        return sum(len(text) for row in rows for text, style in row if style == "bold" and "┆" not in text)

    assert bold(full) == bold(plain) > 0
    assert "limit" in "".join(
        text for row in draw(ChartData(line=line, levels=(Level(9.0, "limit"),)), 60, 12) for text, _ in row
    )


async def test_keys_choose_smooth_zoom_and_read_the_curve() -> None:
    run = make_run()
    record(run, 200, 400)
    writer = EventWriter(run.events_path)
    for number in range(3):
        writer.write("memory", device_used_bytes=(30 + number) * GIB)
        time.sleep(0.01)
    writer.write("finished", outcome="completed", step=200)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "loss  ⡀ steps", "step 200 of 400")
        await pilot.press("t")
        await shows(pilot, "evaluation loss")
        await pilot.press("t", "t", "t", "t")
        await shows(pilot, "memory, GiB", "┤")
        await pilot.press("t", "s")
        await shows(pilot, "loss  smoothing strong")
        await pilot.press("left", "left", "comma")
        await shows(pilot, "at step 1", "smoothed", "┆")
        await pilot.press("plus", "plus")
        await shows(pilot, "zoom 50 steps")
        await pilot.press("escape")
        await until(pilot, lambda: "┆" not in screen_text(app) and "zoom" not in screen_text(app))
        await pilot.press("s", "s")
        await shows(pilot, "loss  smoothing light")
        await pilot.press("escape")
        assert app.current_mode == "runs"


async def test_words_are_found_in_the_whole_log_and_escape_shows_all() -> None:
    run = make_run()
    writer = EventWriter(run.events_path)
    writer.write("warning", code="x", message="the needle of the beginning [/x] [@click=app.quit]go[/]")
    for number in range(3000):
        writer.write("warning", code="x", message=f"hay {number}")
    record(run, 60, 60, "completed")
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "completed", "checkpoint step 50")
        await pilot.press("slash", *"needle BEGIN", "enter")
        await shows(pilot, "1 lines with 'needle BEGIN'", "the needle of the beginning [/x] [@click")
        log = app.screen.query_one(Log)
        assert [line for line in log.lines if line] == [line for line in log.lines if "needle" in line]
        EventWriter(run.events_path).write("warning", code="x", message="a late needle for the beginning")
        EventWriter(run.events_path).write("warning", code="x", message="late hay")
        await shows(pilot, "a late needle")
        assert "late hay" not in screen_text(app)
        await pilot.press("escape")
        await shows(pilot, "late hay")


def test_a_search_reads_what_the_log_would_say(tmp_path: Path) -> None:
    run = make_run()
    record(run, 120, 120, "completed")
    found = search_log(run.events_path, "checkpoint saved 100")
    assert [line.text for line in found.lines] == ["checkpoint step 100 saved, 161.0 MiB (schedule)"]
    assert search_log(run.events_path, "warning:").total == 0
    assert search_log(run.events_path, "loss").total == 2
    empty = tmp_path / "none.jsonl"
    empty.touch()
    assert search_log(empty, "x").total == 0


async def test_of_a_long_history_the_end_is_seen_first(monkeypatch: pytest.MonkeyPatch) -> None:
    run = long_run(40_000)
    assert newest_part(run) is not None
    seen: list[tuple[int, float | None, int]] = []
    taken = RunScreen._show

    def show(screen: RunScreen) -> None:
        shot = screen.deck.snapshot
        if shot is not None:
            seen.append((shot.step, shot.reading, len(shot.curves.loss)))
        taken(screen)

    monkeypatch.setattr(RunScreen, "_show", show)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(seen) and seen[-1][1] is None)
        assert seen[0][0] == 40_000
        assert seen[0][1] is not None
        assert seen[-1][2] > 256
        await shows(pilot, "step 40,000 of 40,000", "┤")
        assert "reading the history" not in screen_text(app)


async def test_the_worker_s_own_log_can_be_read() -> None:
    run = make_run()
    record(run, 5, 10)
    (run.path / "worker.log").write_text("first\nLoading 10%\rLoading 99%\n\x1b[31mlast[/x]\n")
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "step 5 of 10")
        await pilot.press("w")
        await shows(pilot, "worker.log, its end", "Loading 99%", "last[/x]")
        assert "10%" not in screen_text(app)
        assert "\x1b" not in screen_text(app)
