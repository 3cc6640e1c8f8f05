"""Drawing curves with braille dots: pure functions from points to rows of characters.

A character is two dots wide and four high. The widget is in `widgets.py`; `tui.terminal.ascii` replaces the characters
where the terminal shows ASCII alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tui.charts.decimate import Point

Styled = tuple[str, str]
"""Characters and their style."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
RAW_STYLE, LINE_STYLE, MARK_STYLE, AXIS_STYLE, CURSOR_STYLE = "dim", "$accent", "bold $warning", "dim", "bold"
LETTER_EVERY = 18
"""Characters between two letters of one curve."""


@dataclass(frozen=True, slots=True)
class Series:
    """A further line with a style, and a letter of its own for readers without colors."""

    points: tuple[Point, ...]
    style: str
    letter: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line with its name at the left."""

    value: float
    name: str
    style: str = "$secondary"


@dataclass(frozen=True, slots=True)
class ChartData:
    """What a chart shows: raw values as dots, a smoothed line, further lines, levels, single marks, a crosshair."""

    raw: tuple[Point, ...] = ()
    line: tuple[Point, ...] = ()
    marks: tuple[tuple[float, float], ...] = ()
    title: str = ""
    series: tuple[Series, ...] = ()
    levels: tuple[Level, ...] = ()
    window: tuple[float, float] | None = None
    """First and last x to show; None = everything from the start."""
    cursor: float | None = None
    """Where the crosshair stands."""
    floor: float | None = None
    """A value that the picture always reaches down to."""


@dataclass(frozen=True, slots=True)
class Range:
    """An axis from `low` to `high` with labels every `step`."""

    low: float
    high: float
    step: float

    def ticks(self) -> list[float]:
        """Multiples of `step` within the axis."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [index * self.step for index in range(first, last + 1)][:50]

    def label(self, value: float) -> str:
        """`value` with the digits that tell neighbors apart."""
        if self.high >= 10_000:
            return f"{value / 1000:,.{0 if self.step >= 1000 else 1}f}k"
        if max(abs(self.high), abs(self.low)) < 1e-2:
            return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"
        digits = max(0, min(6, -math.floor(math.log10(self.step) + 1e-9)))
        return f"{value:,.{digits}f}"


def nice_range(low: float, high: float, ticks: int) -> Range:
    """An axis that holds `low` to `high` with about `ticks` labels at 1, 2 or 5 times a power of ten."""
    if not high > low:
        margin = abs(low) * 0.05 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / max(1, ticks)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5) if 1.25 * factor * power >= raw), 10 * power)
    return Range(low, high, step)


def value_range(data: ChartData) -> tuple[float, float] | None:
    """Lowest and highest value worth showing: the outermost 2 % of raw spikes may leave the picture."""
    lows = sorted(point.low for point in data.raw)
    highs = sorted(point.high for point in data.raw)
    lines = (data.line, *(one.points for one in data.series))
    kept = [point.mean for points in lines for point in points] + [value for _, value in data.marks]
    kept += [level.value for level in data.levels] if kept or lows else []
    kept += [data.floor] if data.floor is not None and (kept or lows) else []
    if lows:
        cut = len(lows) // 50
        kept += [lows[cut], highs[-1 - cut]]
    return (min(kept), max(kept)) if kept else None


class Canvas:
    """Braille dots with a style per cell. Where a line runs, the haze of raw values gives way to it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _ in range(height)]
        self._lines = [[0] * width for _ in range(height)]
        self._glyphs: list[list[str]] = [[""] * width for _ in range(height)]
        self._styles = [[""] * width for _ in range(height)]

    def dot(self, x: int, y: int, style: str) -> None:
        """Set one dot; (0, 0) is top left, dots outside are ignored."""
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            self._bits[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            self._styles[y // 4][x // 2] = style

    def line_dot(self, x: int, y: int, style: str = LINE_STYLE) -> None:
        """Set one dot of a line."""
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            self._lines[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            self._styles[y // 4][x // 2] = style

    def column(self, x: int, top: int, bottom: int, style: str) -> None:
        """Set the dots of a column from `top` to `bottom`."""
        for y in range(max(0, top), min(self.height * 4 - 1, bottom) + 1):
            self.dot(x, y, style)

    def behind(self, x: int, y: int, character: str, style: str) -> None:
        """Put a character into the cell of dot (x, y) where nothing else is."""
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            row, column = y // 4, x // 2
            if not (self._bits[row][column] or self._lines[row][column] or self._glyphs[row][column]):
                self.glyph(x, y, character, style)

    def glyph(self, x: int, y: int, character: str, style: str) -> None:
        """Put a character into the cell of dot (x, y)."""
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            self._glyphs[y // 4][x // 2] = character
            self._styles[y // 4][x // 2] = style

    def rows(self) -> list[list[Styled]]:
        """Rows of runs of equal style."""
        return [self._row(y) for y in range(self.height)]

    def _row(self, y: int) -> list[Styled]:
        runs: list[Styled] = []
        cells = zip(self._bits[y], self._lines[y], self._glyphs[y], self._styles[y], strict=True)
        for haze, bits, glyph, style in cells:
            character = glyph or (chr(0x2800 + (bits or haze)) if bits or haze else " ")
            if runs and runs[-1][1] == style:
                runs[-1] = (runs[-1][0] + character, style)
            else:
                runs.append((character, style))
        return runs


def scale(value: float, low: float, high: float, dots: int) -> int:
    """Where `value` lies on an axis of `dots` places from `low` to `high`."""
    return round((value - low) / (high - low) * (dots - 1)) if high > low else 0


def plot(canvas: Canvas, data: ChartData, x_axis: Range, y_axis: Range) -> None:
    """Draw raw dots, then the lines, then the marks, levels and crosshair."""
    dots_x, dots_y = canvas.width * 2, canvas.height * 4

    def across(value: float) -> int:
        return scale(value, x_axis.low, x_axis.high, dots_x)

    def down(value: float) -> int:
        return dots_y - 1 - scale(value, y_axis.low, y_axis.high, dots_y)

    for point in data.raw:
        canvas.column(across(point.x), down(point.high), down(point.low), RAW_STYLE)
    lines = (*data.series, Series(data.line, LINE_STYLE))
    places = [[(across(point.x), down(point.mean)) for point in one.points] for one in lines]
    for one, where in zip(lines, places, strict=True):
        _connect(canvas, where, one.style)
    for number, (one, where) in enumerate(zip(lines, places, strict=True)):
        letters(canvas, one.letter, one.style, number, where)
    for x, y in data.marks:
        canvas.glyph(across(x), down(y), "○", MARK_STYLE)
    for level in data.levels:
        _level(canvas, level, down(level.value))
    if data.cursor is not None:
        for row in range(canvas.height):
            canvas.behind(across(data.cursor), row * 4, "┆", CURSOR_STYLE)


def _level(canvas: Canvas, level: Level, y: int) -> None:
    for column in range(canvas.width):
        character = level.name[column - 1] if 0 < column <= len(level.name) else "┄"
        canvas.behind(column * 2, y, " " if column in (0, len(level.name) + 1) else character, level.style)


def _connect(canvas: Canvas, places: Sequence[tuple[int, int]], style: str) -> None:
    for index, (x, y) in enumerate(places):
        if index == 0:
            canvas.line_dot(x, y, style)
            continue
        before_x, before_y = places[index - 1]
        steps = max(abs(x - before_x), abs(y - before_y), 1)
        for step in range(1, steps + 1):
            share = step / steps
            at = (round(before_x + (x - before_x) * share), round(before_y + (y - before_y) * share))
            canvas.line_dot(*at, style)


def letters(canvas: Canvas, letter: str, style: str, number: int, places: Sequence[tuple[int, int]]) -> None:
    """A curve's letter at its end and here and there on the way, at other places for each curve."""
    if not letter or not places or places[0] == places[-1]:
        return
    bold = f"bold {style}".replace("bold dim", "dim")
    due = 2 * (number * LETTER_EVERY // 4 + 3)
    for x, y in places:
        if x >= due:
            canvas.glyph(x, min(max(y, 0), canvas.height * 4 - 1), letter, bold)
            due = x + 2 * LETTER_EVERY
    canvas.glyph(*places[-1], letter, bold)


def draw(data: ChartData, width: int, height: int) -> list[list[Styled]]:
    """A chart in `width` x `height` characters: labels at the left, steps below; empty when there is no room."""
    values = value_range(data)
    if values is None or width < 16 or height < 3:
        return []
    lines = (data.raw, data.line, *(one.points for one in data.series))
    xs = [point.x for points in lines for point in points] + [x for x, _ in data.marks]
    plot_height = height - 2
    y_axis = nice_range(*values, max(3, round(plot_height / 2.5)))
    labels = {value: y_axis.label(value) for value in y_axis.ticks()}
    gutter = max((len(text) for text in labels.values()), default=1)
    canvas = Canvas(width - gutter - 2, plot_height)
    low, high = data.window or (0.0 if min(xs) < 0.1 * max(xs) else min(xs), max(xs))
    x_axis = nice_range(low, high, max(1, canvas.width // 10)) if low < high else _single(xs[0])
    plot(canvas, data, x_axis, y_axis)
    at_row = {plot_height - 1 - scale(value, y_axis.low, y_axis.high, plot_height): labels[value] for value in labels}
    rows = []
    for index, runs in enumerate(canvas.rows()):
        label = at_row.get(index)
        rows.append([(f"{label or '':>{gutter}} {'┤' if label else '│'}", AXIS_STYLE), *runs])
    return rows + foot(x_axis, canvas.width, gutter)


def _single(x: float) -> Range:
    return Range(x - 1, x + 1, 1)


def foot(axis: Range, width: int, gutter: int) -> list[list[Styled]]:
    """The axis below a chart: a line with ticks, and their labels."""
    line, text = ["─"] * width, [" "] * (width + gutter + 2)
    end = 0
    for value in axis.ticks():
        column = scale(value, axis.low, axis.high, width)
        label = axis.label(value)
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
