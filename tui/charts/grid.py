"""Several charts beside and above each other, each with its title. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tui.charts.canvas import Styled
from tui.charts.chart import ChartData, draw
from tui.charts.legend import title_row

MIN_WIDTH, MIN_HEIGHT = 34, 8
GAP = 1
_SHAPE = 3.6
"""Columns for each row of characters in the best-looking cell: characters are twice as tall as wide."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Cells across and down, and how many pages hold all charts."""

    columns: int
    rows: int
    pages: int

    @property
    def per_page(self) -> int:
        """Charts seen at once."""
        return self.columns * self.rows

    def page_of(self, index: int) -> int:
        """The page that a chart is on."""
        return min(index // self.per_page, self.pages - 1)


def layout(count: int, width: int, height: int) -> Layout:
    """As few empty cells as can be, in a good shape; more pages where cells would get too small to read.

    A picture that is hidden has no size.
    """
    width, height = max(1, width), max(1, height)
    most_across, most_down = max(1, width // MIN_WIDTH), max(1, height // MIN_HEIGHT)
    count = max(1, count)
    if count > most_across * most_down:
        return Layout(most_across, most_down, -(-count // (most_across * most_down)))

    def badness(across: int) -> float:
        down = -(-count // across)
        shape = (width / across) / (height / down)
        return abs(math.log(shape / _SHAPE)) + 0.3 * (across * down - count)

    fitting = [across for across in range(1, most_across + 1) if -(-count // across) <= most_down]
    across = min(fitting, key=badness)
    return Layout(across, -(-count // across), 1)


def shares(whole: int, parts: int, gap: int) -> list[tuple[int, int]]:
    """Start and size of `parts` with a gap between them; they differ by one at most."""
    room = whole - gap * (parts - 1)
    edges = [index * room // parts for index in range(parts + 1)]
    return [(edges[index] + index * gap, edges[index + 1] - edges[index]) for index in range(parts)]


def draw_cell(data: ChartData, width: int, height: int) -> list[list[Styled]]:
    """One chart below its title, every row exactly `width` wide."""
    rows = [title_row(data, width), *draw(data, width, height - 1)]
    rows += [[] for _ in range(height - len(rows))]
    return [[*row, (" " * max(0, width - sum(cell_len(text) for text, _ in row)), "")] for row in rows]


def draw_grid(cells: Sequence[ChartData], shape: Layout, width: int, height: int) -> list[list[Styled]]:
    """The charts of one page, row by row."""
    rows: list[list[Styled]] = []
    across = shares(width, shape.columns, GAP)
    for line, (_, tall) in enumerate(shares(height, shape.rows, 0)):
        beside = [
            draw_cell(data, wide, tall)
            for data, (_, wide) in zip(cells[line * shape.columns : (line + 1) * shape.columns], across, strict=False)
        ]
        for number in range(tall):
            rows.append([])
            for place, cell in enumerate(beside):
                rows[-1] += ([(" " * GAP, "")] if place else []) + cell[number]
    return rows


def cell_at(x: int, y: int, shape: Layout, width: int, height: int) -> int:
    """The number of the cell on the page that a place lies in."""
    across = [start for start, _ in shares(width, shape.columns, GAP)]
    down = [start for start, _ in shares(height, shape.rows, 0)]
    return sum(start <= y for start in down[1:]) * shape.columns + sum(start <= x for start in across[1:])
