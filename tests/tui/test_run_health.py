"""What goes wrong in a live run stands in the last line of its screen, and in the shell."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from engine.cli import cli
from engine.runs import health
from engine.runs.events import EventWriter
from engine.runs.follow import follow_run
from tests.tui.conftest import attached, make_run, record, shows, worker_alive
from tui.reading.tail import RunReader
from tui.run.curve_data import chart_data, reading
from tui.run.curves import CurveView


def rising(run: object) -> None:
    """A held-out loss that rises three times."""
    writer = EventWriter(run.events_path)  # type: ignore[attr-defined]
    for step, loss in ((210, 1.3), (220, 1.4), (230, 1.5), (240, 1.6)):
        writer.write("eval", step=step, loss=loss)
    writer.close()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_last_line_says_what_goes_wrong(size: tuple[int, int]) -> None:
    run = make_run()
    record(run, 200, 400)
    with worker_alive(run):
        app = attached(run)
        async with app.run_test(size=size) as pilot:
            await shows(pilot, "runs on without this window")
            rising(run)
            await shows(pilot, "the held-out loss rose 3 times in a row, to 1.6000", "x stop", "!")
            await pilot.press("question_mark")
            await shows(pilot, "by heart", "early_stopping_patience")


def test_what_went_wrong_is_a_mark_that_the_crosshair_reads() -> None:
    run = make_run()
    record(run, 200, 400)
    rising(run)
    reader = RunReader(run)
    reader.read()
    shot = reader.snapshot("completed")
    assert shot.concerns == ()
    assert [x for x, _ in chart_data(shot, CurveView()).flags] == [230]
    assert [x for x, _ in chart_data(shot, CurveView("evaluation loss")).flags] == [230]
    assert chart_data(shot, CurveView("gradient norm")).flags == ()
    assert "at step 230  ! the held-out loss rose 3 times" in reading(shot, CurveView(cursor=230.0), 200).plain
    assert "!" not in reading(shot, CurveView(cursor=200.0), 200).plain


async def test_silence_is_told_though_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SILENT_S", 1.0)
    run = make_run()
    record(run, 200, 400)
    with worker_alive(run):
        app = attached(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(pilot, "no event for", "the worker may hang")


def test_a_watcher_looks_for_silence_while_no_event_comes() -> None:
    run = make_run()
    record(run, 20, 400)
    looked: list[bool] = []

    def idle() -> None:
        looked.append(True)
        raise KeyboardInterrupt

    with worker_alive(run), pytest.raises(KeyboardInterrupt):
        list(follow_run(run, idle=idle))
    assert looked


def test_the_shell_says_the_same() -> None:
    run = make_run()
    record(run, 200, 400)
    rising(run)
    with worker_alive(run):
        shown = CliRunner().invoke(cli, ["runs", "show", run.id])
        told = json.loads(CliRunner().invoke(cli, ["runs", "show", run.id, "--json"]).stdout)
    assert "health   the held-out loss rose 3 times" in shown.output
    assert [one["code"] for one in told["concerns"]] == ["evaluation_rises"]
    over = json.loads(CliRunner().invoke(cli, ["runs", "show", run.id, "--json"]).stdout)
    assert over["concerns"] == []
