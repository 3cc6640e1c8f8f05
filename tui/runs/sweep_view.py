"""A sweep's charts, one a setting, and its trials as lines. Pure functions of the picture and the width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from engine.api.sweeps import Dot, SettingChart, SweepPicture, TrialRow, value_text
from tui.text import Part, clip, fit, fit_right, line, safe

_CHART_CELLS, _GAP = 36, 2
_LABEL_CELLS = 9
MARKS = {"best": ("◆", "bold $success"), "sure": ("●", "$accent"), "live": ("×", "$warning")}
"""The leading trial, one that ended with a value, one on its way."""


def chart_lines(chart: SettingChart, width: int, height: int) -> list[Content]:
    """A setting's chart in exactly `height` lines: title, dots, axis, values of the setting."""
    best = (f"  best {chart.best}", "$success") if chart.best else ""
    title = line((clip(safe(chart.key, 80), max(8, width - len(chart.best) - 7)), "bold"), best)
    rows, cells = max(1, height - 3), max(4, width - _LABEL_CELLS - 2)
    values = [dot.value for dot in chart.dots]
    low, high = min(values, default=0.0), max(values, default=0.0)
    grid: list[list[Part]] = [[" "] * cells for _ in range(rows)]
    for dot in sorted(chart.dots, key=lambda dot: (dot.best, dot.sure)):
        row = rows // 2 if high == low else round((high - dot.value) / (high - low) * (rows - 1))
        grid[row][round(dot.place * (cells - 1))] = _mark(dot)
    labels = [""] * rows
    if values:
        labels[-1] = f"{low:.4g}"
        labels[0] = f"{high:.4g}" if rows > 1 else labels[0]
    drawn = [
        line((fit_right(label, _LABEL_CELLS - 1), "dim"), (" ┤" if label else " │", "dim"), *parts)
        for label, parts in zip(labels, grid, strict=True)
    ]
    axis = Content.styled(" " * _LABEL_CELLS + "└" + "─" * cells, "dim")
    return [title, *drawn, axis, _values_line(chart, cells)]


def _mark(dot: Dot) -> Part:
    return MARKS["best" if dot.best else "sure" if dot.sure else "live"]


def _values_line(chart: SettingChart, cells: int) -> Content:
    """The setting's values below their places, as many as do not touch; the best one stands out."""
    text = ""
    parts: list[Part] = []
    for place, label in chart.marks:
        at = max(0, min(cells - len(label), round(place * (cells - 1)) - len(label) // 2))
        if text and at < len(text) + 1:
            continue
        gap = " " * (at - len(text))
        parts += [gap, (clip(safe(label, 20), cells), "bold $success" if label == chart.best else "dim")]
        text += gap + label
    return line(" " * (_LABEL_CELLS + 1), *parts)


def picture(found: SweepPicture, width: int, height: int) -> Content:
    """Charts beside each other as width allows, then every trial."""
    if not found.charts:
        return Content.styled("no trial has begun", "dim")
    columns = max(1, min(len(found.charts), (width + _GAP) // (_CHART_CELLS + _GAP)))
    cells = (width - _GAP * (columns - 1)) // columns
    rows = -(-len(found.charts) // columns)
    tall = max(6, min(12, (height - 4) // (2 * rows)))
    blocks = [chart_lines(chart, cells, tall) for chart in found.charts]
    shown: list[Content] = []
    for start in range(0, len(blocks), columns):
        side = blocks[start : start + columns]
        shown += [Content(" " * _GAP).join([_padded(block[at], cells) for block in side]) for at in range(tall)]
        shown.append(Content(""))
    return Content("\n").join([*shown, *trial_lines(found, width)])


def _padded(text: Content, cells: int) -> Content:
    return text.truncate(cells, pad=True)


def legend(found: SweepPicture) -> Content:
    """What the marks mean, and which direction is better."""
    better = "lower is better" if found.metric == "eval_loss" else "higher is better"
    parts: list[Part] = [(f"{safe(found.metric, 30)}, {better}", "dim")]
    for name, word in (("best", "best"), ("sure", "ended"), ("live", "under way")):
        parts += ["  ", MARKS[name], (f" {word}", "dim")]
    return line(*parts)


def trial_lines(found: SweepPicture, width: int) -> list[Content]:
    """Every trial: ranked ones first, then those under way, then those that are planned."""
    lines = [_trial_line(row, found.metric, width) for row in found.rows]
    if found.undrawn:
        words = (
            f"{found.undrawn} more trial{'' if found.undrawn == 1 else 's'}: their settings are chosen as others end"
        )
        lines.append(Content.styled(clip(words, width), "dim"))
    return lines


def _trial_line(row: TrialRow, metric: str, width: int) -> Content:
    lead = row.rank == 1
    name = f"trial {row.trial}" if row.trial >= 0 else "trial –"
    value = row.value if row.value is not None else row.best_eval_loss if metric == "eval_loss" else None
    steps = f"{row.step:,} of {row.steps_total:,}" if row.state == "running" and row.step and row.steps_total else ""
    settings = ", ".join(f"{str(key).rpartition('.')[2]} {value_text(one)}" for key, one in row.params.items())
    head: list[Part] = [
        MARKS["best"] if lead else " ",
        (fit_right(str(row.rank) if row.rank else "–", 4), "bold" if lead else ""),
        "  " + fit(name, 9),
        fit_right(f"{value:.4g}" if value is not None else "–", 9),
        ("  " + fit(safe(row.state, 20), 10), "dim"),
    ]
    room = width - cell_len(line(*head).plain) - 1
    return line(*head, " ", clip(safe(f"{settings}  {steps}".rstrip(), 300), room))


def heading(found: Sequence[SweepPicture], name: str) -> tuple[list[Part], list[Part]]:
    """Which sweep, and how far it is."""
    left: list[Part] = [("sweep ", "dim"), (name, "bold")]
    if not found:
        return left, [("reading …", "dim")]
    ended = sum(row.value is not None for row in found[0].rows)
    return left, [(f"{ended} of {found[0].planned} trial{'' if found[0].planned == 1 else 's'} ended", "dim")]
