"""What charts draw of a run: one curve large, or all of them small; and every value under the crosshair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from textual.content import Content

from engine.text import format_duration
from tui.charts.axis import short
from tui.charts.canvas import Styled
from tui.charts.chart import EVAL_STYLE, FLAG_MARK, FLAG_STYLE, ChartData, Level, Series
from tui.charts.decimate import Point, smoothed
from tui.reading.snapshot import Curves, RunSnapshot, value
from tui.run.curves import (
    EVALUATION,
    GRADIENT,
    LOSS,
    MEMORY,
    RATE,
    SMOOTHING,
    SPEED,
    CurveView,
    at,
    extent,
    kinds,
    over_steps,
    points_of,
    shown_points,
    window,
    within,
)
from tui.run.reference import Reference
from tui.run.view import MEMORY_STYLES
from tui.text import Part, line, number, rate, safe

REFERENCE_STYLE, REFERENCE_LETTER = "$foreground", "r"
FLAGS = {
    LOSS: ("loss_rises", "evaluation_rises", "gradient_spike"),
    EVALUATION: ("evaluation_rises",),
    GRADIENT: ("gradient_spike",),
    SPEED: ("slow", "card_slowed"),
}
"""Concerns that are marked on a curve."""
_SPECS = {LOSS: ".4f", EVALUATION: ".4f", RATE: ".2e", GRADIENT: ".2f"}
_NEAR = 0.01
"""Of what is shown: as near as that the crosshair stands on a mark."""
Window = tuple[float, float] | None


def chart_data(
    snapshot: RunSnapshot, view: CurveView, title: tuple[Styled, ...] = (), reference: Reference | None = None
) -> ChartData:
    """What the large chart draws for a view."""
    shown = window(snapshot, view)
    if view.kind == MEMORY:
        data = replace(_memory(snapshot, snapshot.curves.memory, shown), seconds=True)
    else:
        data = _over_steps(snapshot, view, shown, reference)
    return replace(data, title=title, window=shown, cursor=view.cursor, powers=view.powers)


def _over_steps(snapshot: RunSnapshot, view: CurveView, shown: Window, reference: Reference | None) -> ChartData:
    if view.kind == LOSS:
        data = _loss(snapshot, view, shown)
    elif view.kind == EVALUATION:
        data = _evaluations(snapshot, shown)
    else:
        points = shown_points(snapshot, view.kind, shown)
        data = ChartData(line=smoothed(points, SMOOTHING[view.smoothing]))
    drawn = data.line or data.raw or points_of(snapshot.curves, view.kind)
    flags = tuple(_flags(snapshot, view.kind, drawn, shown))
    return replace(data, flags=flags, series=(*_reference(reference, view, shown), *data.series))


def _loss(snapshot: RunSnapshot, view: CurveView, shown: Window) -> ChartData:
    raw = shown_points(snapshot, LOSS, shown)
    line_ = _smooth(snapshot.curves, raw, view, shown)
    return ChartData(raw=raw, line=line_, marks=_marks(snapshot, shown), best=_best(snapshot, shown))


def _smooth(curves: Curves, raw: tuple[Point, ...], view: CurveView, shown: Window) -> tuple[Point, ...]:
    """The smoothed loss: the one that grew with the run where all of it is seen."""
    share = SMOOTHING[view.smoothing]
    if view.smoothing == "normal" and shown is None:
        return curves.smooth
    return smoothed(raw, share) if share else ()


def _evaluations(snapshot: RunSnapshot, shown: Window) -> ChartData:
    points = shown_points(snapshot, EVALUATION, shown)
    return ChartData(
        marks=tuple((point.x, point.mean) for point in points),
        series=(Series(points, EVAL_STYLE),),
        best=_best(snapshot, shown),
    )


def _marks(snapshot: RunSnapshot, shown: Window) -> tuple[tuple[float, float], ...]:
    return tuple((point.x, point.mean) for point in shown_points(snapshot, EVALUATION, shown))


def _best(snapshot: RunSnapshot, shown: Window) -> tuple[float, float] | None:
    step, loss = value(snapshot.best_eval, "step"), value(snapshot.best_eval, "loss")
    if step is None or loss is None or (shown is not None and not shown[0] <= step <= shown[1]):
        return None
    return step, loss


def _flags(snapshot: RunSnapshot, kind: str, drawn: tuple[Point, ...], shown: Window) -> Iterable[tuple[float, float]]:
    codes = FLAGS.get(kind, ())
    past = [one for one in snapshot.health if one.code in codes]
    now = [one for one in snapshot.concerns if one.code in codes and kind == SPEED]
    for step in sorted({float(one.step) for one in (*past, *now)}):
        height = at(drawn, step)
        if height is not None and (shown is None or shown[0] <= step <= shown[1]):
            yield step, height


def _reference(reference: Reference | None, view: CurveView, shown: Window) -> tuple[Series, ...]:
    """The same curve of the reference, as smooth."""
    if reference is None:
        return ()
    points = within(points_of(reference.curves, view.kind), shown)
    if view.kind == LOSS:
        points = _smooth(reference.curves, points, view, shown) or points
    elif view.kind != EVALUATION:
        points = smoothed(points, SMOOTHING[view.smoothing])
    return (Series(points, REFERENCE_STYLE, REFERENCE_LETTER, "reference"),) if points else ()


# Memory


def _letters(names: Iterable[str]) -> dict[str, str]:
    """What tells curves of memory apart where colors do not; one curve needs no letter."""
    found = list(names)
    return {name: name[:1] if len(found) > 1 else "" for name in found}


def _memory(snapshot: RunSnapshot, curves: tuple[tuple[str, tuple[Point, ...]], ...], shown: Window) -> ChartData:
    letters = _letters(name for name, _ in curves)
    series = tuple(
        Series(within(points, shown), MEMORY_STYLES.get(name, "$accent"), letters[name], name)
        for name, points in curves
    )
    highest = max((point.high for one in series for point in one.points), default=0.0)
    # A limit far above what is used would press everything else flat; the bars beside show it.
    levels = tuple(Level(amount, name) for name, amount in levels_of(snapshot) if amount <= 3 * highest)
    return ChartData(series=series, levels=levels, floor=0.0)


def levels_of(snapshot: RunSnapshot) -> list[tuple[str, float]]:
    """Prediction and limit of memory, in GiB."""
    predicted = snapshot.facts.predicted_bytes or value(snapshot.memory, "predicted_bytes")
    limit = value(snapshot.memory, "device_total_bytes") or snapshot.facts.available_bytes
    return [(name, amount / 2**30) for name, amount in (("predicted", predicted), ("limit", limit)) if amount]


# Titles


def title_of(snapshot: RunSnapshot, view: CurveView, difference: str = "") -> tuple[Styled, ...]:
    """What the curve is, and how it is looked at: what a person has changed says more than what the dots mean."""
    notes = [] if view.smoothing == "normal" else [f"smoothing {view.smoothing}"]
    if view.span is not None:
        notes.append(f"zoom {format_duration(view.span) if view.kind == MEMORY else f'{view.span:,.0f} steps'}")
    notes += ["log"] if view.powers else []
    words = "  ".join(["memory, GiB" if view.kind == MEMORY else view.kind, *notes])
    return ((words, "dim"), (f"  {difference}", "bold")) if difference else ((words, "dim"),)


# All of them, small


def grid_data(
    snapshot: RunSnapshot, view: CurveView, reference: Reference | None = None
) -> list[tuple[str, ChartData]]:
    """Every curve over the same steps, under one crosshair; the title of each says the value there, or the newest."""
    steps = over_steps(snapshot, view)
    shown = window(snapshot, steps)
    drawn = shown or _whole(snapshot)
    found = []
    for kind in kinds(snapshot.curves):
        if kind == MEMORY:
            data = _memory(snapshot, snapshot.curves.memory_by_step, shown)
        else:
            data = _over_steps(snapshot, replace(view, kind=kind), shown, reference)
        title = _cell_title(snapshot, kind, view.cursor, data, chosen=kind == view.kind)
        data = replace(data, title=title, window=drawn, cursor=view.cursor, powers=view.powers)
        found.append((kind, data))
    return found


def _whole(snapshot: RunSnapshot) -> Window:
    """All steps of all curves, from the start where that is near."""
    ends = [extent(snapshot, CurveView(kind)) for kind in kinds(snapshot.curves) if kind != MEMORY]
    known = [one for one in ends if one is not None]
    if not known:
        return None
    low, high = min(one[0] for one in known), max(one[1] for one in known)
    return (0.0 if low < 0.1 * high else low), high


def _cell_title(
    snapshot: RunSnapshot, kind: str, cursor: float | None, data: ChartData, *, chosen: bool
) -> tuple[Styled, ...]:
    name = (f"▸ {kind}" if chosen else f"  {kind}", "bold $accent" if chosen else "dim")
    lines = [one.points for one in data.series] if kind == MEMORY else [points_of(snapshot.curves, kind)]
    points = next((points for points in lines if points), ())
    found = value_at(kind, points, cursor)
    unit = " GiB" if kind == MEMORY else ""
    return name, (f"  {value_text(kind, found)}{unit}", "bold")


def value_at(kind: str, points: tuple[Point, ...], cursor: float | None) -> float | None:
    """The value under the crosshair, or the newest; of evaluations the last before it."""
    if not points:
        return None
    if cursor is None:
        return points[-1].mean
    if kind != EVALUATION:
        return at(points, cursor)
    before = [point.mean for point in points if point.x <= cursor]
    return before[-1] if before else None


def value_text(kind: str, found: float | None) -> str:
    """A value of a curve with the digits that suit it."""
    if kind == SPEED:
        return rate(found)
    if kind in _SPECS or found is None:
        return number(found, _SPECS.get(kind, ".3f"))
    return f"{found:.2f}" if kind == MEMORY else short(found)


# Under the crosshair


def reading(snapshot: RunSnapshot, view: CurveView, width: int) -> Content:
    """Every value under the crosshair, in the line where the newest ones stand otherwise."""
    place = view.cursor or 0.0
    pairs = _memory_reading(snapshot, place) if view.kind == MEMORY else _step_reading(snapshot, view, place)
    head = (f"at {format_duration(place)} " if view.kind == MEMORY else f"at step {place:,.0f} ", "bold")
    shown: list[Part] = [head, *_concerns_at(snapshot, view)]
    for name, amount in pairs:
        shown += [(f" {name} ", "dim"), amount]
    return line(*shown).truncate(width, ellipsis=True)


def _concerns_at(snapshot: RunSnapshot, view: CurveView) -> list[Part]:
    """What went wrong under the crosshair, as its marks show."""
    place, codes = view.cursor or 0.0, FLAGS.get(view.kind, ())
    low, high = window(snapshot, view) or extent(snapshot, view) or (place, place)
    near = [one for one in snapshot.health if one.code in codes and abs(one.step - place) <= (high - low) * _NEAR]
    return [(f" {FLAG_MARK} {safe(one.text, 200)} ", FLAG_STYLE) for one in near[-1:]]


def _memory_reading(snapshot: RunSnapshot, place: float) -> list[tuple[str, str]]:
    found = [(name, number(at(points, place), ".2f")) for name, points in snapshot.curves.memory]
    return [*found, *((name, f"{amount:.2f}") for name, amount in levels_of(snapshot))]


def _step_reading(snapshot: RunSnapshot, view: CurveView, place: float) -> list[tuple[str, str]]:
    shown = window(snapshot, view)
    loss = chart_data(snapshot, replace(view, kind=LOSS))
    found = [("loss", number(at(loss.raw, place), ".4f"))]
    if loss.line:
        found.append(("smoothed", number(at(loss.line, place), ".4f")))
    before = value_at(EVALUATION, points_of(snapshot.curves, EVALUATION), place)
    if before is not None:
        found.append(("eval", f"{before:.4f}"))
    for name, kind in (("rate", RATE), ("grad", GRADIENT), ("tok/s", SPEED)):
        found.append((name, value_text(kind, at(shown_points(snapshot, kind, shown), place))))
    return found
