"""Which curve is shown, how much of it, and where the crosshair stands. Pure functions of a snapshot.

What a chart draws of it is in `curve_data.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui.charts.decimate import Point
from tui.reading.snapshot import Curves, RunSnapshot

LOSS, EVALUATION, RATE, GRADIENT, SPEED, MEMORY = (
    "loss", "evaluation loss", "learning rate", "gradient norm", "tokens per second", "memory",
)  # fmt: skip
KINDS = (LOSS, EVALUATION, RATE, GRADIENT, SPEED, MEMORY)
SMOOTHING = {"none": 0.0, "light": 0.02, "normal": 0.05, "strong": 0.2}
SMALLEST_SPAN = 4.0


@dataclass(frozen=True, slots=True)
class CurveView:
    """What of the curves is shown. `span`: x shown, None = all; `end`: last x shown, None = the newest.

    `powers`: values as powers of ten.
    """

    kind: str = LOSS
    smoothing: str = "normal"
    span: float | None = None
    end: float | None = None
    cursor: float | None = None
    powers: bool = False

    def following(self, kind: str) -> CurveView:
        """The same view of another curve; memory is drawn over time, so places in steps mean nothing there."""
        same = (kind == MEMORY) == (self.kind == MEMORY)
        return replace(self, kind=kind) if same else replace(self.whole, kind=kind)

    @property
    def whole(self) -> CurveView:
        """All of the curve, without a crosshair."""
        return replace(self, span=None, end=None, cursor=None)


def kinds(curves: Curves) -> list[str]:
    """The curves that have points: the usual ones, then what else the run told."""
    found = [kind for kind in KINDS if lines_of(curves, kind)]
    return found + [name for name, points in curves.metrics if points and name not in found]


def lines_of(curves: Curves, kind: str, *, by_step: bool = False) -> list[tuple[Point, ...]]:
    """The lines of a curve that have points; memory over seconds or over steps."""
    if kind == MEMORY:
        return [points for _, points in (curves.memory_by_step if by_step else curves.memory) if points]
    points = points_of(curves, kind)
    return [points] if points else []


def points_of(curves: Curves, kind: str) -> tuple[Point, ...]:
    """The points over steps of a curve that is one line."""
    if kind == EVALUATION:
        return tuple(Point(x, y, y, y) for x, y in curves.evals)
    usual = {
        LOSS: curves.loss,
        RATE: curves.learning_rate,
        GRADIENT: curves.grad_norm,
        SPEED: curves.tokens_per_second,
    }
    return usual[kind] if kind in usual else dict(curves.metrics).get(kind, ())


def extent(snapshot: RunSnapshot, view: CurveView) -> tuple[float, float] | None:
    """First and last x of a curve; None when there is less than two points."""
    xs = [point.x for points in lines_of(snapshot.curves, view.kind) for point in (points[:1] + points[-1:])]
    if view.kind not in (MEMORY, EVALUATION) and xs and snapshot.reading is None:
        xs.append(float(snapshot.step))  # the last point of a long curve stands for several steps
    if view.kind == LOSS:
        xs += [x for x, _ in snapshot.curves.evals]
    return (min(xs), max(xs)) if xs and min(xs) < max(xs) else None


def over_steps(snapshot: RunSnapshot, view: CurveView) -> CurveView:
    """The same view of a curve that reaches over the whole training, for all that are drawn over steps."""
    reaching = (
        kind for kind in kinds(snapshot.curves) if kind != MEMORY and extent(snapshot, replace(view, kind=kind))
    )
    return replace(view, kind=next(reaching, LOSS))


def window(snapshot: RunSnapshot, view: CurveView) -> tuple[float, float] | None:
    """The x that are shown; None for everything."""
    whole = extent(snapshot, view)
    if whole is None or view.span is None:
        return None
    high = min(whole[1], view.end) if view.end is not None else whole[1]
    low = max(whole[0], high - view.span)
    return low, max(high, low + min(view.span, whole[1] - low))


def shown_points(snapshot: RunSnapshot, kind: str, shown: tuple[float, float] | None) -> tuple[Point, ...]:
    """A curve's points in the window, at the resolution that is there."""
    detail = snapshot.detail
    if shown is not None and detail is not None and (detail.low, detail.high) == shown:
        return points_of(detail.curves, kind)
    return within(points_of(snapshot.curves, kind), shown)


def within(points: Sequence[Point], shown: tuple[float, float] | None) -> tuple[Point, ...]:
    """Points in the window."""
    return tuple(point for point in points if shown is None or shown[0] <= point.x <= shown[1])


def at(points: Sequence[Point], x: float) -> float | None:
    """The value nearest to `x`."""
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
    place = min(whole[1], max(whole[0], view.cursor + share * (high - low)))
    near = min(_places(snapshot, view, (low, high)), key=lambda x: abs(x - place), default=place)
    place = near if (near - view.cursor) * share > 0 and low <= place <= high else place
    end = view.end
    if view.span is not None and place > high:
        end = place
    if view.span is not None and place < low:
        end = place + view.span
    return replace(view, cursor=place, end=end)


def _places(snapshot: RunSnapshot, view: CurveView, shown: tuple[float, float]) -> list[float]:
    """Where the crosshair may stand: there are values."""
    if view.kind == MEMORY:
        return [point.x for points in lines_of(snapshot.curves, MEMORY)[:1] for point in points]
    beside = (EVALUATION,) if view.kind == LOSS else ()
    return [point.x for kind in (view.kind, *beside) for point in shown_points(snapshot, kind, shown)]


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
