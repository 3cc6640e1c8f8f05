"""Runs beside each other as lines: legend, numbers, settings. Pure functions of the runs and the width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from tui.charts.chart import ChartData
from tui.charts.overlay import STYLES, Series
from tui.runs.comparing import Compared, best_of, differing, metrics_of, setting_keys
from tui.text import Part, fit, line, middle, tail


def legend(runs: Sequence[Compared], metric: str, width: int) -> Content:
    """Which letter is which run, and which curve is drawn."""
    room = max(8, (width - 20) // max(1, len(runs)) - 4)
    parts: list[Part] = []
    for place, one in enumerate(runs):
        parts += [(f"{one.letter} ", f"bold {style_of(place)}"), middle(one.name, room), "  "]
    letters = line(*parts)
    return Content.assemble(letters, " " * max(1, width - letters.cell_length - len(metric)), (metric, "bold"))


def cells(runs: Sequence[Compared], chosen: str, powers: bool) -> list[tuple[str, ChartData]]:
    """Every curve that any run has, as a small chart."""
    found = []
    for name in metrics_of(runs):
        lines = tuple(Series(one.letter, place, one.curves.get(name, ())).drawn() for place, one in enumerate(runs))
        if any(line.points for line in lines):
            title = (f"▸ {name}", "bold $accent") if name == chosen else (f"  {name}", "dim")
            found.append((name, ChartData(series=lines, powers=powers, trimmed=True, title=(title,))))
    return found


def style_of(place: int) -> str:
    """The colour of the run at `place`."""
    return STYLES[place % len(STYLES)]


def table(runs: Sequence[Compared], every: bool, width: int) -> Content:
    """Numbers, then settings: those that differ, or all."""
    keys = setting_keys(runs) if every else differing(runs)
    longest = max((cell_len(key) for one in runs for key in (*one.numbers, *keys)), default=0)
    label = min(longest + 2, max(18, width // 3))
    cell = max(6, (width - label) // max(1, len(runs)))
    head = fit("", label) + "".join(fit(f"{one.letter} {middle(one.name, cell - 3)}", cell - 1) + " " for one in runs)
    lines = [Content.styled(head.rstrip(), "dim")]
    for name in dict.fromkeys(key for one in runs for key in one.numbers):
        best = best_of(name, runs)
        cells = [_number_cell(one.numbers.get(name, "–"), one.letter == best, cell) for one in runs]
        lines.append(Content.assemble((fit(name, label), "dim"), *cells))
    return Content("\n").join([*lines, Content(""), *_setting_lines(runs, keys, every, label, cell)])


def _number_cell(text: str, best: bool, cell: int) -> Part:
    return (fit(f"{text} ✓" if best else text, cell - 1) + " ", "bold" if best else "")


def _setting_lines(runs: Sequence[Compared], keys: Sequence[str], every: bool, label: int, cell: int) -> list[Content]:
    different, total = differing(runs), len(setting_keys(runs))
    title = f"settings that differ: {len(different)} of {total}" if not every else f"all {total} settings"
    lines = [line((title, "bold"), ("  value, and where it came from", "dim"))]
    for key in keys:
        parts: list[Part] = [(fit(tail(key, label - 1), label), "" if key in different else "dim")]
        for one in runs:
            parts += _setting_cell(*one.settings.get(key, ("–", "")), cell)
        lines.append(line(*parts))
    return lines if len(lines) > 1 else [*lines, Content.styled("the settings are the same", "dim")]


def _setting_cell(setting: str, source: str, cell: int) -> list[Part]:
    """A value with its source behind it; the source is left out before the value is cut."""
    room = cell - 1
    if len(setting) + len(source) + 1 > room:
        return [fit(setting, room) + " "]
    return [setting + " ", (fit(source, room - len(setting) - 1) + " ", "dim")]
