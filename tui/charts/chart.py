"""Drawing curves: pure functions from points to rows of characters.

The widget is in `widgets.py`, the line above a chart in `legend.py`, several charts beside each other in `grid.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tui.charts.axis import Axis, plain_axis, power_axis, time_axis
from tui.charts.canvas import Canvas, Styled
from tui.charts.decimate import Point

RAW_STYLE, LINE_STYLE, AXIS_STYLE, CURSOR_STYLE = "dim", "$accent", "dim", "bold"
EVAL_STYLE, BEST_STYLE, FLAG_STYLE = "$deck-evaluation", "bold $success", "bold $warning"
EVAL_MARK, BEST_MARK, FLAG_MARK, EVAL_LETTER = "○", "◆", "!", "e"
COLUMNS_PER_MARK = 3
"""With less room for each, evaluations are a line: marks would hide the curve below them."""
_MIN_WIDTH, _MIN_HEIGHT = 16, 3


@dataclass(frozen=True, slots=True)
class Series:
    """A further line with a style, and a letter of its own for readers without colors."""

    points: tuple[Point, ...]
    style: str
    letter: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line with its name at the left."""

    value: float
    name: str
    style: str = "$secondary"


@dataclass(frozen=True, slots=True)
class ChartData:
    """What a chart shows: raw values as dots, a smoothed line, evaluations, further lines, levels, a crosshair."""

    raw: tuple[Point, ...] = ()
    line: tuple[Point, ...] = ()
    marks: tuple[tuple[float, float], ...] = ()
    """Evaluations: a mark each, or a line where they are dense."""
    title: tuple[Styled, ...] = ()
    series: tuple[Series, ...] = ()
    levels: tuple[Level, ...] = ()
    window: tuple[float, float] | None = None
    """First and last x to show; None = everything from the start."""
    cursor: float | None = None
    """Where the crosshair stands."""
    floor: float | None = None
    """A value that the picture always reaches down to."""
    best: tuple[float, float] | None = None
    """The best evaluation."""
    flags: tuple[tuple[float, float], ...] = ()
    """Where something went wrong."""
    powers: bool = False
    """Values are shown as powers of ten; those that are not above zero are left out."""
    seconds: bool = False
    """x is time."""
    trimmed: bool = False
    """The highest 2 % of lines may leave the picture, so that a first spike does not flatten all."""

    @property
    def everything(self) -> tuple[tuple[Point, ...], ...]:
        """The points of every curve."""
        return self.raw, self.line, *(one.points for one in self.series)


def left_out(data: ChartData) -> int:
    """Values that powers of ten cannot show."""
    if not data.powers:
        return 0
    points = (data.raw or data.line, *(one.points for one in data.series))
    return sum(point.mean <= 0 for line in points for point in line) + sum(y <= 0 for _, y in data.marks)


def in_powers(data: ChartData) -> ChartData:
    """The same with the exponents of values."""
    return replace(
        data,
        raw=_exponents(data.raw),
        line=_exponents(data.line),
        marks=_logarithms(data.marks),
        flags=_logarithms(data.flags),
        best=next(iter(_logarithms([data.best] if data.best else [])), None),
        series=tuple(replace(one, points=_exponents(one.points)) for one in data.series),
        levels=tuple(replace(one, value=math.log10(one.value)) for one in data.levels if one.value > 0),
        floor=None,
    )


def _exponents(points: Iterable[Point]) -> tuple[Point, ...]:
    return tuple(
        Point(point.x, math.log10(point.low if point.low > 0 else point.mean), math.log10(point.high), mean)
        for point in points
        if point.mean > 0 and math.isfinite(mean := math.log10(point.mean))
    )


def _logarithms(places: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((x, math.log10(y)) for x, y in places if y > 0)


def value_range(data: ChartData) -> tuple[float, float] | None:
    """Lowest and highest value worth showing: the outermost 2 % of raw spikes may leave the picture."""
    lines = (data.line, *(one.points for one in data.series))
    kept = [point.mean for points in lines for point in points] + [value for _, value in data.marks]
    if data.trimmed and kept:
        kept = sorted(kept)[: len(kept) - len(kept) // 50]
    lows = sorted(point.low for point in data.raw)
    highs = sorted(point.high for point in data.raw)
    if lows:
        cut = len(lows) // 50
        kept += [lows[cut], highs[-1 - cut]]
    if not kept:
        return None
    kept += [level.value for level in data.levels]
    kept += [data.floor] if data.floor is not None else []
    return min(kept), max(kept)


def is_dense(data: ChartData, width: int) -> bool:
    """Whether evaluations are drawn as a line in a chart of that width."""
    return len(data.marks) * COLUMNS_PER_MARK > width


def plot(canvas: Canvas, data: ChartData, x_axis: Axis, y_axis: Axis, *, dense: bool) -> None:
    """Draw raw dots, then the lines, then the marks, levels and crosshair."""
    dots_x, dots_y = canvas.dots

    def across(value: float) -> int:
        return x_axis.at(value, dots_x)

    def down(value: float) -> int:
        return dots_y - 1 - y_axis.at(value, dots_y)

    for point in data.raw:
        canvas.column(across(point.x), down(point.high), down(point.low), RAW_STYLE)
    lines = _lines(data, dense=dense)
    places = [[(across(point.x), down(point.mean)) for point in one.points] for one in lines]
    for one, where in zip(lines, places, strict=True):
        canvas.line(where, one.style)
    for number, (one, where) in enumerate(zip(lines, places, strict=True)):
        canvas.letters(one.letter, one.style, number, where)
    for (x, y), glyph, style in _glyphs(data, dense=dense):
        canvas.glyph(across(x), min(max(down(y), 0), dots_y - 1), glyph, style)
    for level in data.levels:
        _level(canvas, level, down(level.value))
    if data.cursor is not None:
        for row in range(canvas.height):
            canvas.behind(across(data.cursor), row * 4, "┆", CURSOR_STYLE)


def _lines(data: ChartData, *, dense: bool) -> list[Series]:
    """The lines in the order in which they are drawn, the main one last."""
    evaluations = tuple(Point(x, y, y, y) for x, y in data.marks) if dense else ()
    return [*data.series, Series(evaluations, EVAL_STYLE, EVAL_LETTER), Series(data.line, LINE_STYLE)]


def _glyphs(data: ChartData, *, dense: bool) -> list[tuple[tuple[float, float], str, str]]:
    """Single signs and their places, the most telling last: it is seen where several fall together."""
    marks = () if dense else data.marks
    best = (data.best,) if data.best is not None else ()
    return [
        *((mark, EVAL_MARK, f"bold {EVAL_STYLE}") for mark in marks),
        *((mark, BEST_MARK, BEST_STYLE) for mark in best),
        *((flag, FLAG_MARK, FLAG_STYLE) for flag in data.flags),
    ]


def _level(canvas: Canvas, level: Level, y: int) -> None:
    for column in range(canvas.width):
        character = level.name[column - 1] if 0 < column <= len(level.name) else "┄"
        canvas.behind(column * 2, y, " " if column in (0, len(level.name) + 1) else character, level.style)


def draw(data: ChartData, width: int, height: int) -> list[list[Styled]]:
    """A chart in `width` x `height` characters: labels at the left, steps below; empty when there is no room."""
    data = in_powers(data) if data.powers else data
    values = value_range(data)
    if values is None or width < _MIN_WIDTH or height < _MIN_HEIGHT:
        return []
    plot_height = height - 2
    y_axis = (power_axis if data.powers else plain_axis)(*values, max(3, round(plot_height / 2.5)))
    gutter = max((len(text) for _, text in y_axis.ticks), default=1)
    canvas = Canvas(width - gutter - 2, plot_height)
    x_axis = _x_axis(data, canvas.width)
    plot(canvas, data, x_axis, y_axis, dense=is_dense(data, width))
    at_row = {plot_height - 1 - y_axis.at(value, plot_height): text for value, text in y_axis.ticks}
    rows = []
    for index, runs in enumerate(canvas.rows()):
        text = at_row.get(index, "")
        rows.append([(f"{text:>{gutter}} {'┤' if text else '│'}", AXIS_STYLE), *runs])
    return rows + foot(x_axis, canvas.width, gutter)


def _x_axis(data: ChartData, width: int) -> Axis:
    axis = time_axis if data.seconds else plain_axis
    if data.window is not None:
        return axis(*data.window, max(1, width // 10))
    xs = [point.x for points in data.everything for point in points] + [x for x, _ in data.marks]
    low = 0.0 if len(set(xs)) > 1 and min(xs) < 0.1 * max(xs) else min(xs)
    return axis(low, max(xs), max(1, width // 10))


def foot(axis: Axis, width: int, gutter: int) -> list[list[Styled]]:
    """The axis below a chart: a line with ticks, and their labels."""
    line, text = ["─"] * width, [" "] * (width + gutter + 2)
    end = 0
    for value, label in axis.ticks:
        column = axis.at(value, width)
        start = min(max(end, gutter + 2 + column - len(label) // 2), len(text) - len(label))
        if start < end or not 0 <= column < width:
            continue
        line[column] = "┬"
        text[start : start + len(label)] = label
        end = start + len(label) + 1
    return [[(" " * (gutter + 1) + "└" + "".join(line), AXIS_STYLE)], [("".join(text), AXIS_STYLE)]]


_LEVELS = "▁▂▃▄▅▆▇█"


def spark(points: Sequence[Point], width: int) -> str:
    """The means of `points` as a row of `width` blocks; empty when there is nothing to show."""
    if not points or width < 1:
        return ""
    columns = min(width, len(points))
    groups = [points[index * len(points) // columns : (index + 1) * len(points) // columns] for index in range(columns)]
    means = [sum(point.mean for point in group) / len(group) for group in groups]
    low, high = min(means), max(means)
    return "".join(_LEVELS[round((mean - low) / (high - low) * 7) if high > low else 3] for mean in means)
