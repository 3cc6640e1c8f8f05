"""All curves of a run at once: how they lie, one crosshair, values in titles, own metrics, a logarithmic axis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from engine.runs.events import EventWriter
from engine.runs.store import Run
from engine.runs.view import RunFold
from tests.tui.conftest import GIB, attached, make_run, record, screen_text, shows, until
from tui.charts.axis import Axis, label, plain_axis, power_axis, short, time_axis
from tui.charts.chart import ChartData, draw, left_out
from tui.charts.decimate import Buckets, Point
from tui.charts.grid import draw_grid, layout
from tui.charts.legend import title_row
from tui.charts.widgets import changed_regions
from tui.reading.snapshot import RunSnapshot
from tui.reading.tail import RunReader
from tui.run.curve_data import chart_data, grid_data
from tui.run.curves import CurveView, kinds
from tui.terminal.ascii import TABLE


def line_of(values: dict[float, float]) -> tuple[Point, ...]:
    return tuple(Point(x, y, y, y) for x, y in values.items())


def text_of(rows: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(text for text, _ in row) for row in rows)


def read(run: Run) -> RunSnapshot:
    reader = RunReader(run)
    while reader.read():
        pass
    return reader.snapshot("completed")


def told(run: Run) -> RunSnapshot:
    """A run whose steps and evaluations carry figures of their own, and memory at steps 0 and 120."""
    writer = EventWriter(run.events_path)
    writer.write("memory", host_rss_bytes=1 * GIB)
    record(run, 120, 120, "completed")
    writer.write("train_step", step=121, loss=1.0, reward_margin=0.5, odd="x", flag=True)
    writer.write("train_step", step=122, loss=1.0, reward_margin=0.75)
    writer.write("eval", step=122, loss=1.1, accuracy=0.9)
    writer.close()
    return read(run)


@pytest.mark.parametrize(
    ("size", "least", "most"), [((58, 10), 1, 2), ((78, 18), 2, 4), ((118, 33), 7, 9), ((198, 43), 7, 9)]
)
def test_as_many_curves_are_seen_as_can_be_read(size: tuple[int, int], least: int, most: int) -> None:
    shape = layout(7, *size)
    assert least <= shape.per_page <= most
    assert shape.pages == -(-7 // shape.per_page)
    cell = ChartData(line=line_of({x: x for x in range(9)}), title=(("a name", "dim"),))
    rows = draw_grid([cell] * shape.per_page, shape, *size)
    assert len(rows) == size[1]
    assert {cell_len("".join(text for text, _ in row)) for row in rows} == {size[0]}
    assert text_of(rows).count("a name") == shape.per_page


def test_every_figure_that_events_carry_has_a_curve() -> None:
    shot = told(make_run())
    found = kinds(shot.curves)
    assert found[-2:] == ["reward margin", "evaluation accuracy"]
    assert "odd" not in found
    cells = dict(grid_data(shot, CurveView(cursor=121.0)))
    assert list(cells) == found
    assert all(cell.cursor == 121.0 and cell.window == cells["loss"].window for cell in cells.values())
    titles = {kind: "".join(text for text, _ in cell.title) for kind, cell in cells.items()}
    assert titles["reward margin"].endswith("0.5")
    assert titles["memory"].endswith("GiB")
    assert titles["loss"].startswith("▸")
    assert "1.0000" in titles["loss"]
    # Memory stands over the steps at which it was measured, as everything here.
    assert cells["memory"].series[0].points[-1].x == 120


def test_a_resumed_run_tells_its_own_figures_anew() -> None:
    fold = RunFold()
    for step in (1, 2, 3):
        fold.apply({"type": "train_step", "step": step, "margin": step})
    fold.apply({"type": "started", "resumed_from_step": 1})
    assert list(fold.metrics["margin"].steps) == [1]
    for number in range(100):
        fold.apply({"type": "train_step", "step": 2, f"name {number}": 1.0})
    assert len(fold.metrics) <= 30


def test_points_behind_a_step_go_and_the_rest_is_whole() -> None:
    buckets = Buckets(8)
    for step in range(40):
        buckets.add(step, 1.0)
    buckets.cut_after(20)
    assert buckets.points()[-1].x <= 20
    buckets.add(21, 5.0)
    assert buckets.points()[-1].high == 5.0
    assert all(point.mean == 1.0 for point in buckets.points()[:-1])


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (plain_axis(3.0, 3.0, 5), ["3"]),
        (plain_axis(0.0, 0.0, 5), ["0"]),
        (plain_axis(0, 129_800_000_000, 3), ["0", "50G", "100G"]),
        (plain_axis(-2, 2, 4), ["-2", "-1", "0", "1", "2"]),
        (plain_axis(1.00e-4, 1.02e-4, 4), ["1e-4", "1.005e-4", "1.01e-4", "1.015e-4", "1.02e-4"]),
        (time_axis(0, 200_000, 5), ["0", "12 h", "24 h", "36 h", "48 h"]),
        (time_axis(0, 60, 3), ["0", "20 s", "40 s", "60 s"]),
        (time_axis(0, 3600, 4), ["0", "20 min", "40 min", "60 min"]),
        (time_axis(0, 40 * 86400, 4), ["0", "10 d", "20 d", "30 d", "40 d"]),
        (power_axis(-4, 1, 3), ["1e-4", "0.01", "1"]),
        (power_axis(0, 1, 3), ["1", "2", "5", "10"]),
        (power_axis(0.0, 0.1, 3), ["1.0", "1.1", "1.2"]),
    ],
)
def test_labels_are_short_and_true(axis: Axis, labels: list[str]) -> None:
    assert [text for _, text in axis.ticks] == labels
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks)
    assert (label(0.0, 1e5, 4e5), short(0.0), short(1.25e-5), short(129.8e9)) == ("0", "0", "1.25e-5", "130G")


def test_powers_of_ten_leave_out_what_they_cannot_show_and_say_so() -> None:
    data = ChartData(
        line=line_of({0: 10.0, 1: 1.0, 2: 0.0, 3: -1.0, 4: 0.01}), powers=True, title=(("loss", "dim"),), floor=0.0
    )
    assert left_out(data) == 2
    assert "2 values ≤ 0 left out" in text_of([title_row(data, 60)])
    shown = text_of(draw(data, 60, 14))
    assert all(f"{text} ┤" in shown for text in ("10", "1", "0.1", "0.01"))
    assert draw(replace(data, line=line_of({0: 0.0, 1: -1.0})), 60, 14) == []
    assert left_out(replace(data, powers=False)) == 0


def test_dense_evaluations_are_a_line_and_the_best_stays_a_mark() -> None:
    loss = line_of({x: 2.0 - x / 400 for x in range(400)})
    few = ChartData(raw=loss, line=loss, marks=tuple((x, 1.5) for x in range(0, 400, 40)), best=(380.0, 1.5))
    many = replace(few, marks=tuple((float(x), 1.5) for x in range(0, 400, 2)))
    assert text_of(draw(few, 80, 14)).count("○") >= 8
    shown = text_of(draw(many, 80, 14))
    assert "○" not in shown
    assert "e" in shown
    assert shown.count("◆") == 1
    signs = text_of([title_row(replace(many, title=(("loss", "dim"),)), 80)])
    assert "e eval" in signs
    ascii_signs = text_of([title_row(replace(few, title=(("loss", "dim"),)), 80)]).translate(TABLE).split()
    assert len({sign for sign in ascii_signs if len(sign) == 1}) == 4  # steps, smoothed, eval, best


def test_only_what_looks_different_is_sent() -> None:
    before = [[("abc", ""), ("def", "dim")], [("same", "")], [("short", "")]]
    after = [[("abX", ""), ("def", "dim")], [("sa", ""), ("me", "")], [("shorter", "")]]
    assert [(region.x, region.y, region.width) for region in changed_regions(before, after)] == [(2, 0, 1), (5, 2, 2)]


def test_a_curve_of_one_point_has_no_axis_below_zero() -> None:
    run = make_run()
    EventWriter(run.events_path).write("memory", host_rss_bytes=1 * GIB)
    data = chart_data(read(run), CurveView("memory"))
    assert text_of(draw(data, 60, 10)).splitlines()[-1].split() == ["0"]


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (200, 50)])
async def test_keys_walk_through_all_curves(size: tuple[int, int]) -> None:
    run = make_run()
    told(run)
    app = attached(run)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "support-bot", "┤")
        await pilot.press("T")
        await shows(pilot, "8 curves", "▸ loss")
        pages = layout(8, size[0] - 2, size[1] - 6).pages
        assert (f"page 1 of {pages}" in screen_text(app)) == (pages > 1)
        await pilot.press("left", "L")
        await shows(pilot, "at step 122", "┆", "8 curves", "log")
        seen = screen_text(app)
        assert all(cell_len(line) <= size[0] for line in seen.splitlines())
        assert seen.count("┆") >= 2
        for _ in range(7):
            await pilot.press("down")
        await shows(pilot, "▸ evaluation accuracy  0.9")
        await pilot.press("enter")
        await shows(pilot, " evaluation accuracy  log")
        assert "▸" not in screen_text(app)
        await pilot.press("escape")
        await shows(pilot, "▸ evaluation accuracy")
        await pilot.press("T")
        await until(pilot, lambda: "8 curves" not in screen_text(app))
        assert app.current_mode == "run"


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_hidden_picture_has_a_page(count: int) -> None:
    assert layout(count, 0, 0).page_of(0) == 0


async def test_a_run_without_a_step_has_no_curves_to_show() -> None:
    run = make_run()
    EventWriter(run.events_path).write("error", code=6, message="no module named torch")
    app = attached(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.deck.snapshot is not None)
        await pilot.press("T")
        await shows(pilot, "the run has no step to draw")
