"""Gauges of one card over two minutes, as lines of text. Pure functions.

Drawn on the cards' screen and beside a run. Not here: keeping the readings (`tui.charts.card_history`).
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from engine.api.cards import CardLoad, place_of
from tui.charts.card_history import GAUGES, KEPT_S, Gauge, History
from tui.charts.columns import columns
from tui.text import fit, gib, line

WIDE = 100
"""Columns from which two gauges stand beside each other."""
_VALUE_CELLS = 26
_HOT_SHARE = 0.95
_GB = 1e9


def gauges_text(history: History, load: CardLoad | None, width: int, height: int) -> Content:
    """The card's gauges, each a name, a value and its last two minutes; two side by side where there is width."""
    if load is None or height < 1:
        return Content("")
    told = [gauge for gauge in GAUGES if history.series(place_of(load.gpu), gauge)]
    across = 2 if width >= WIDE else 1
    lines_each = max(1, min(4, height // max(1, -(-len(told) // across))))
    cells = (width - 2 * (across - 1)) // across
    shown = told[: across * (height // lines_each)]
    blocks = [_gauge_lines(history, load, gauge, cells, lines_each) for gauge in shown]
    rows = [blocks[start : start + across] for start in range(0, len(blocks), across)]
    lines = [Content("  ").join(row[index] for row in side) for side in rows for index in range(lines_each)]
    return Content("\n").join(lines) if lines else Content.styled("the driver tells nothing of this card", "dim")


def _gauge_lines(history: History, load: CardLoad, gauge: Gauge, cells: int, height: int) -> list[Content]:
    series = history.series(place_of(load.gpu), gauge)
    most = gauge.most(load) or max([value for _, value in series] + [1.0])
    value = gauge.value(load)
    hot = gauge.name != "util" and value is not None and value >= _HOT_SHARE * most and gauge.most(load) is not None
    words = [
        (fit(gauge.name, 7), "dim"),
        (fit(_value_text(gauge, load, value), _VALUE_CELLS - 7), "$warning" if hot else ""),
    ]
    room = max(0, cells - _VALUE_CELLS)
    picture = columns_of(series, gauge.least, most, room, height)
    blank = " " * _VALUE_CELLS
    heads = [line(*words)] + [Content(blank)] * (height - 1)
    return [
        Content.assemble(head, (row, "$warning" if hot else "$accent"))
        for head, row in zip(heads, picture, strict=True)
    ]


def _value_text(gauge: Gauge, load: CardLoad, value: float | None) -> str:
    if value is None:
        return "n/a"
    most = gauge.most(load)
    if gauge.unit == "GiB":
        return f"{gib(value)} of {gib(most)} GiB"
    if gauge.name == "bus":
        lanes = f"  gen {load.pcie_generation} x{load.pcie_lanes}" if load.pcie_generation and load.pcie_lanes else ""
        return f"{value / _GB:.1f} GB/s{lanes}"
    limit = f" of {most:.0f}" if most is not None and gauge.unit != "%" else ""
    return f"{value:.0f}{limit} {gauge.unit}"


def columns_of(series: Sequence[tuple[float, float]], least: float, most: float, width: int, height: int) -> list[str]:
    """Columns of eighths, `height` lines from the top; now at the right, `KEPT_S` ago at the left."""
    groups: list[list[float]] = [[] for _ in range(width)]
    for ago_s, value in series:
        if width:
            groups[max(0, width - 1 - int(ago_s * width / KEPT_S))].append(value)
    span = max(most - least, 1e-9)
    # Whatever was read is seen, also where it is nothing.
    means = [min(span, max(1e-9, sum(group) / len(group) - least)) if group else 0.0 for group in groups]
    return columns(means, height, span)
