"""Curves of a run's fold, decimated as they grow: only what is new is taken."""

from __future__ import annotations

from engine.api.runs import Curve, Event, RunFold
from tui.charts.decimate import Buckets, Point, Smooth, binned
from tui.reading.snapshot import Curves, value
from tui.text import safe

GIB = 2.0**30
MEMORY = (
    ("device", "device_used_bytes"),
    ("process", "process_bytes"),
    ("reserved", "reserved_bytes"),
    ("allocated", "allocated_bytes"),
)
MOST_EVALUATIONS = 512


class FollowedCurve:
    """One curve in a fixed number of points; one that was cut is taken anew."""

    def __init__(self, curve: Curve, *, smooth: bool = False) -> None:
        self._curve = curve
        self._buckets = Buckets()
        self._smooth = Smooth() if smooth else None
        self._taken = 0

    def restart(self) -> None:
        """Take everything again."""
        self._buckets.clear()
        if self._smooth is not None:
            self._smooth.clear()
        self._taken = 0

    def points(self) -> tuple[Point, ...]:
        """The points, with what has come since the last time."""
        steps, values = self._curve.steps, self._curve.values
        for index in range(self._taken, len(steps)):
            taken = values[index] if self._smooth is None else self._smooth.add(values[index])
            self._buckets.add(steps[index], taken)
        self._taken = len(steps)
        return self._buckets.points()


class FollowedMemory:
    """Memory by name over seconds since the first sample, and over optimizer steps."""

    def __init__(self) -> None:
        self._over_time = {name: Buckets() for name, _ in MEMORY}
        self._over_steps = {name: Buckets() for name, _ in MEMORY}
        self._since: float | None = None

    def take(self, event: Event, at_s: float, step: int) -> None:
        """One `memory` event."""
        self._since = at_s if self._since is None else self._since
        on_card = "reserved_bytes" in event or "device_used_bytes" in event
        for name, key in MEMORY if on_card else (("process", "host_rss_bytes"),):
            amount = value(event, key)
            if amount is not None:
                self._over_time[name].add(max(0.0, at_s - self._since), amount / GIB)
                self._over_steps[name].add(float(step), amount / GIB)

    def cut_after(self, step: int) -> None:
        """A resumed run takes the steps behind `step` again."""
        for buckets in self._over_steps.values():
            buckets.cut_after(float(step))

    def over_time(self) -> tuple[tuple[str, tuple[Point, ...]], ...]:
        """Points in GIB by name, over seconds."""
        return _points(self._over_time)

    def over_steps(self) -> tuple[tuple[str, tuple[Point, ...]], ...]:
        """Points in GIB by name, over steps."""
        return _points(self._over_steps)


def _points(found: dict[str, Buckets]) -> tuple[tuple[str, tuple[Point, ...]], ...]:
    return tuple((name, buckets.points()) for name, buckets in found.items() if len(buckets))


class FollowedRun:
    """All curves of one fold."""

    def __init__(self, fold: RunFold) -> None:
        self._fold = fold
        self._loss, self._smooth = FollowedCurve(fold.loss), FollowedCurve(fold.loss, smooth=True)
        self._rate = FollowedCurve(fold.learning_rate)
        self._speed = FollowedCurve(fold.tokens_per_second)
        self._grad = FollowedCurve(fold.grad_norm)
        self._metrics: dict[str, FollowedCurve] = {}
        self._memory = FollowedMemory()

    def apply(self, event: Event) -> None:
        """After the fold has taken an event."""
        if event["type"] == "memory":
            self._memory.take(event, self._fold.last_time, self._fold.step)
        elif event["type"] == "started":
            for curve in (self._loss, self._smooth, self._rate, self._speed, self._grad, *self._metrics.values()):
                curve.restart()
            self._memory.cut_after(self._fold.step)

    def curves(self) -> Curves:
        """All of them, whole."""
        fold = self._fold
        for name, curve in fold.metrics.items():
            if name not in self._metrics:
                self._metrics[name] = FollowedCurve(curve)
        return Curves(
            loss=self._loss.points(),
            smooth=self._smooth.points(),
            evals=_evaluations(fold.eval_loss, float("-inf"), float("inf")),
            learning_rate=self._rate.points(),
            tokens_per_second=self._speed.points(),
            grad_norm=self._grad.points(),
            memory=self._memory.over_time(),
            memory_by_step=self._memory.over_steps(),
            metrics=tuple((safe(name, 60), curve.points()) for name, curve in self._metrics.items()),
        )


def close_up(fold: RunFold, low: float, high: float) -> Curves:
    """The curves between two steps, at full resolution."""

    def cut(curve: Curve) -> tuple[Point, ...]:
        return binned(curve.steps, curve.values, low, high)

    return Curves(
        loss=cut(fold.loss),
        evals=_evaluations(fold.eval_loss, low, high),
        learning_rate=cut(fold.learning_rate),
        tokens_per_second=cut(fold.tokens_per_second),
        grad_norm=cut(fold.grad_norm),
        metrics=tuple((safe(name, 60), cut(curve)) for name, curve in fold.metrics.items()),
    )


def _evaluations(curve: Curve, low: float, high: float) -> tuple[tuple[float, float], ...]:
    """One by one, or the means of neighbors where there are very many."""
    return tuple((point.x, point.mean) for point in binned(curve.steps, curve.values, low, high, MOST_EVALUATIONS))
