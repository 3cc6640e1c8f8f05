"""Curves: nothing is lost by decimation, charts fit their room, labels are right."""

from __future__ import annotations

import math
import time

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tui.charts.axis import plain_axis
from tui.charts.chart import LINE_STYLE, ChartData, draw, spark, value_range
from tui.charts.decimate import Buckets, Point, Smooth
from tui.terminal.ascii import TABLE, AsciiFilter


def _curve(count: int) -> Buckets:
    buckets = Buckets(512)
    for step in range(count):
        buckets.add(step, 2.0 if step != count // 3 else 99.0)
    return buckets


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5_000, 100_000])
def test_decimation_keeps_size_order_and_spikes(count: int) -> None:
    points = _curve(count).points()
    assert 0 < len(points) <= 512
    assert [point.x for point in points] == sorted(point.x for point in points)
    assert max(point.high for point in points) == 99.0
    assert points[0].x == 0
    assert points[-1].x >= count - 1 - 2 * _curve(count).per


def test_decimation_keeps_the_mean() -> None:
    buckets = Buckets(8)
    for step in range(1000):
        buckets.add(step, float(step))
    points = buckets.points()
    per = [buckets.per] * (len(points) - 1) + [1000 - buckets.per * (len(points) - 1)]
    total = sum(point.mean * weight for point, weight in zip(points, per, strict=True))
    assert total == pytest.approx(sum(range(1000)))


def test_decimating_a_long_run_is_quick() -> None:
    began = time.perf_counter()
    _curve(100_000)
    assert time.perf_counter() - began < 2.0


def test_smoothing_begins_at_the_first_value_and_follows() -> None:
    smooth = Smooth()
    assert smooth.add(6.0) == 6.0
    for _ in range(2000):
        last = smooth.add(1.0)
    assert last == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("width", "height"), [(16, 3), (30, 8), (60, 12), (180, 40)])
def test_chart_fills_exactly_its_room(width: int, height: int) -> None:
    line = tuple(Point(x, v, v, v) for x, v in ((x, 2 + math.cos(x / 20)) for x in range(300)))
    rows = draw(ChartData(line, line, ((100, 2.0),)), width, height)
    assert len(rows) == height
    assert all(cell_len("".join(text for text, _ in row)) <= width for row in rows)
    shown = "".join(text for row in rows for text, _ in row)
    assert any(0x2800 < ord(character) < 0x2900 for character in shown)
    assert "┤" in shown


def test_chart_without_room_or_data_draws_nothing() -> None:
    assert draw(ChartData(), 80, 20) == []
    assert draw(ChartData((Point(1, 1, 1, 1),)), 10, 2) == []


def test_one_point_and_a_flat_line_can_be_drawn() -> None:
    one = (Point(1, 2.5, 2.5, 2.5),)
    assert len(draw(ChartData(one, one), 40, 8)) == 8
    flat = tuple(Point(x, 1.0, 1.0, 1.0) for x in range(50))
    assert any(style == LINE_STYLE for row in draw(ChartData((), flat), 40, 8) for _, style in row)


def test_a_falling_curve_falls() -> None:
    line = tuple(Point(x, v, v, v) for x, v in ((x, 100.0 - x) for x in range(100)))
    rows = draw(ChartData((), line), 50, 10)
    first, last = (
        next(i for i, row in enumerate(rows) if any(style == LINE_STYLE for _, style in row)),
        max(i for i, row in enumerate(rows) if any(style == LINE_STYLE for _, style in row)),
    )
    assert first == 0
    assert last == 7


def test_spikes_of_raw_values_do_not_flatten_the_picture() -> None:
    raw = tuple(Point(x, 1.0, 1.2, 1.1) for x in range(300))
    spiked = (*raw, Point(300, 1.0, 500.0, 250.0))
    low, high = value_range(ChartData(spiked)) or (0, 0)
    assert (low, high) == (1.0, 1.2)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (1.02, 2.48, ["1.2", "1.4", "1.6", "1.8", "2.0", "2.2", "2.4"]),
        (0, 2e-4, ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]),
        (0, 360_000, ["0", "100k", "200k", "300k"]),
    ],
)
def test_axis_labels_are_round_and_tell_neighbours_apart(low: float, high: float, labels: list[str]) -> None:
    axis = plain_axis(low, high, 7 if high < 3 and high > 1 else 5)
    assert [label for _, label in axis.ticks] == labels


def test_spark_shows_a_rise() -> None:
    points = [Point(x, x, x, x) for x in range(100)]
    assert spark(points, 8) == "▁▂▃▄▅▆▇█"
    assert spark([], 8) == ""


def test_every_drawn_character_has_an_ascii_one() -> None:
    line = tuple(Point(x, v, v, v) for x, v in ((x, math.sin(x / 9)) for x in range(200)))
    text = "".join(text for row in draw(ChartData(line, line, ((50, 0.5),)), 60, 12) for text, _ in row)
    assert not text.isascii()
    assert text.translate(TABLE).isascii()


def test_in_ascii_no_line_is_mistaken_for_single_steps() -> None:
    cells = [Segment("⠉⣀⡇", Style(dim=True)), Segment("⠉⣀⡇"), Segment("12 │", Style(dim=True))]
    shown = AsciiFilter().apply(cells, Color(0, 0, 0))
    assert [segment.text for segment in shown] == ["...", "'.|", "12 |"]
