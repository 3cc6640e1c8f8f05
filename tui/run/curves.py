"""Which curve is shown, how much of it, how smooth, and what the crosshair reads. Pure functions of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from textual.content import Content

from tui.charts.chart import ChartData, Level, Series
from tui.charts.decimate import Point, smoothed
from tui.reading.snapshot import Curves, RunSnapshot, value
from tui.text import Part, line, number

KINDS = ("loss", "learning rate", "grad norm", "tokens per second", "memory")
SMOOTHING = {"none": 0.0, "light": 0.02, "normal": 0.05, "strong": 0.2}
SERIES_STYLES = {"device": "dim", "process": "$accent", "reserved": "$warning", "allocated": "$success"}
SMALLEST_SPAN = 4.0


@dataclass(frozen=True, slots=True)
class CurveView:
    """What of the curves is shown. `span`: x shown, None = all; `end`: last x shown, None = the newest."""

    kind: str = "loss"
    smoothing: str = "normal"
    span: float | None = None
    end: float | None = None
    cursor: float | None = None

    def following(self, kind: str) -> CurveView:
        """The same view of another curve; memory is drawn over time, so places in steps mean nothing there."""
        same = (kind == "memory") == (self.kind == "memory")
        return replace(self, kind=kind) if same else CurveView(kind, self.smoothing)


def extent(snapshot: RunSnapshot, view: CurveView) -> tuple[float, float] | None:
    """First and last x of a curve; None when there is less than two points."""
    xs = [point.x for points in _overview(snapshot.curves, view.kind) for point in (points[:1] + points[-1:])]
    if view.kind != "memory" and xs and snapshot.reading is None:
        xs.append(float(snapshot.step))  # the last point of a long curve stands for several steps
    if view.kind == "loss":
        xs += [x for x, _ in snapshot.curves.evals]
    return (min(xs), max(xs)) if xs and min(xs) < max(xs) else None


def window(snapshot: RunSnapshot, view: CurveView) -> tuple[float, float] | None:
    """The x that are shown; None for everything."""
    whole = extent(snapshot, view)
    if whole is None or view.span is None:
        return None
    high = min(whole[1], view.end) if view.end is not None else whole[1]
    low = max(whole[0], high - view.span)
    return low, max(high, low + min(view.span, whole[1] - low))


def _overview(curves: Curves, kind: str) -> list[tuple[Point, ...]]:
    if kind == "memory":
        return [points for _, points in curves.memory if points]
    found = {
        "loss": curves.loss,
        "learning rate": curves.learning_rate,
        "grad norm": curves.grad_norm,
        "tokens per second": curves.tokens_per_second,
    }[kind]
    return [found] if found else []


def _points(snapshot: RunSnapshot, view: CurveView, shown: tuple[float, float] | None) -> tuple[Point, ...]:
    """A curve's points in the window, at the resolution that is there."""
    detail = snapshot.detail
    if shown is not None and detail is not None and (detail.low, detail.high) == shown:
        found = _overview(detail.curves, view.kind)
        return found[0] if found else ()
    found = _overview(snapshot.curves, view.kind)
    return _within(found[0], shown) if found else ()


def _within(points: Sequence[Point], shown: tuple[float, float] | None) -> tuple[Point, ...]:
    return tuple(point for point in points if shown is None or shown[0] <= point.x <= shown[1])


def chart_data(snapshot: RunSnapshot, view: CurveView, title: str = "") -> ChartData:
    """What the chart draws for a view."""
    shown = window(snapshot, view)
    if view.kind == "memory":
        return _memory_data(snapshot, view, shown, title)
    points = _points(snapshot, view, shown)
    share = SMOOTHING[view.smoothing]
    if view.kind != "loss":
        return ChartData(line=smoothed(points, share), title=title, window=shown, cursor=view.cursor)
    known = view.smoothing == "normal" and shown is None
    smooth = snapshot.curves.smooth if known else smoothed(points, share) if share else ()
    marks = tuple((x, y) for x, y in snapshot.curves.evals if shown is None or shown[0] <= x <= shown[1])
    return ChartData(points, smooth, marks, title, window=shown, cursor=view.cursor)


def _letters(snapshot: RunSnapshot) -> dict[str, str]:
    """What tells curves of memory apart where colors do not; one curve needs no letter."""
    names = [name for name, _ in snapshot.curves.memory]
    return {name: name[:1] if len(names) > 1 else "" for name in names}


def _memory_data(snapshot: RunSnapshot, view: CurveView, shown: tuple[float, float] | None, title: str) -> ChartData:
    letters = _letters(snapshot)
    series = [
        Series(_within(points, shown), SERIES_STYLES.get(name, "$accent"), letters[name])
        for name, points in snapshot.curves.memory
    ]
    highest = max((point.high for one in series for point in one.points), default=0.0)
    # A limit far above what is used would press everything else flat; the bars beside show it.
    levels = [Level(amount, name) for name, amount in _levels(snapshot) if amount <= 3 * highest]
    return ChartData(
        title=title, series=tuple(series), levels=tuple(levels), window=shown, cursor=view.cursor, floor=0.0
    )


def _levels(snapshot: RunSnapshot) -> list[tuple[str, float]]:
    predicted = snapshot.facts.predicted_bytes or value(snapshot.memory, "predicted_bytes")
    limit = value(snapshot.memory, "device_total_bytes") or snapshot.facts.available_bytes
    return [(name, amount / 2**30) for name, amount in (("predicted", predicted), ("limit", limit)) if amount]


def title_of(snapshot: RunSnapshot, view: CurveView) -> str:
    """What the curve is, and how it is looked at."""
    notes = [] if view.smoothing == "normal" else [f"smoothing {view.smoothing}"]
    notes += [f"zoom {view.span:,.0f} {'s' if view.kind == 'memory' else 'steps'}"] if view.span is not None else []
    if view.kind == "loss":
        words = ["· steps  ─ smoothed  ○ evaluation" if view.smoothing != "none" else "· steps  ○ evaluation"]
    elif view.kind == "memory":
        words = [*(f"{letter} {name}" for name, letter in _letters(snapshot).items() if letter), "GiB over seconds"]
    else:
        words = []
    # What the person has changed says more than what the dots mean.
    return "  ".join([view.kind, *notes, *words])


def reading(snapshot: RunSnapshot, view: CurveView, width: int) -> Content:
    """Every value under the crosshair, in the line where the newest ones stand otherwise."""
    at = view.cursor or 0.0
    pairs = _memory_reading(snapshot, view, at) if view.kind == "memory" else _step_reading(snapshot, view, at)
    head = (f"at {at:,.0f} s " if view.kind == "memory" else f"at step {at:,.0f} ", "bold")
    shown: list[Part] = [head]
    for name, amount in pairs:
        shown += [(f" {name} ", "dim"), amount]
    return line(*shown).truncate(width, ellipsis=True)


def _memory_reading(snapshot: RunSnapshot, view: CurveView, at: float) -> list[tuple[str, str]]:
    found = [(name, number(_at(points, at), ".2f")) for name, points in snapshot.curves.memory]
    return [*found, *((name, f"{amount:.2f}") for name, amount in _levels(snapshot))]


def _step_reading(snapshot: RunSnapshot, view: CurveView, at: float) -> list[tuple[str, str]]:
    shown = window(snapshot, view)
    loss = chart_data(snapshot, replace(view, kind="loss"))
    found = [("loss", number(_at(loss.raw, at), ".4f"))]
    if loss.line:
        found.append(("smoothed", number(_at(loss.line, at), ".4f")))
    before = [y for x, y in snapshot.curves.evals if x <= at]
    if before:
        found.append(("eval", f"{before[-1]:.4f}"))
    for name, kind, spec in (
        ("rate", "learning rate", ".2e"),
        ("grad", "grad norm", ".2f"),
        ("tok/s", KINDS[3], ",.0f"),
    ):
        found.append((name, number(_at(_points(snapshot, CurveView(kind), shown), at), spec)))
    return found


def _at(points: Sequence[Point], x: float) -> float | None:
    near = min(points, key=lambda point: abs(point.x - x), default=None)
    return near.mean if near is not None else None


def moved(snapshot: RunSnapshot, view: CurveView, share: float) -> CurveView:
    """The crosshair, `share` of what is shown further; it drags the window along at its ends."""
    whole = extent(snapshot, view)
    if whole is None:
        return view
    low, high = window(snapshot, view) or whole
    if view.cursor is None:
        return replace(view, cursor=high if share < 0 else low)
    at = min(whole[1], max(whole[0], view.cursor + share * (high - low)))
    xs = [point.x for points in (_points(snapshot, view, (low, high)),) for point in points]
    near = min(xs, key=lambda x: abs(x - at), default=at)
    at = near if (near - view.cursor) * share > 0 and low <= at <= high else at
    end = view.end
    if view.span is not None and at > high:
        end = at
    if view.span is not None and at < low:
        end = at + view.span
    return replace(view, cursor=at, end=end)


def zoomed(snapshot: RunSnapshot, view: CurveView, factor: float) -> CurveView:
    """`factor` times as much is shown, around the crosshair; without one the newest."""
    whole = extent(snapshot, view)
    if whole is None:
        return view
    low, high = window(snapshot, view) or whole
    span = max(SMALLEST_SPAN, (high - low) * factor)
    if span >= whole[1] - whole[0]:
        return replace(view, span=None, end=None)
    if view.cursor is None:
        return replace(view, span=span, end=view.end)
    end = min(whole[1], max(whole[0] + span, view.cursor + span / 2))
    return replace(view, span=span, end=end)
