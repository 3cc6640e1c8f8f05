"""Curves of any length in a fixed number of points, kept up to date point by point.

Neighboring points are merged in pairs when the buffer is full, so a spike is never lost and a million steps cost what a
thousand do.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One or more neighboring values: where they begin, their range and their mean."""

    x: float
    low: float
    high: float
    mean: float


class Buckets:
    """At most `capacity` points; each stands for `per` values, the last may still be filling."""

    def __init__(self, capacity: int = 512) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError("capacity must be even and at least 2")
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.per = 1
        self._x, self._low, self._high, self._sum = (array("d") for _ in range(4))
        self._filled = 0

    def __len__(self) -> int:
        return len(self._x)

    def add(self, x: float, y: float) -> None:
        """Take the next value; `x` must not fall."""
        if self._x and self._filled < self.per:
            self._low[-1] = min(self._low[-1], y)
            self._high[-1] = max(self._high[-1], y)
            self._sum[-1] += y
            self._filled += 1
            return
        if len(self._x) == self._capacity:
            self._merge()
        for values, value in ((self._x, x), (self._low, y), (self._high, y), (self._sum, y)):
            values.append(value)
        self._filled = 1

    def cut_after(self, x: float) -> None:
        """Drop points that begin behind `x`."""
        if not self._x or self._x[-1] <= x:
            return
        kept = bisect_right(self._x, x)
        for values in (self._x, self._low, self._high, self._sum):
            del values[kept:]
        self._filled = self.per

    def _merge(self) -> None:
        pairs = range(0, self._capacity, 2)
        self._x = self._x[::2]
        self._low = array("d", (min(self._low[i], self._low[i + 1]) for i in pairs))
        self._high = array("d", (max(self._high[i], self._high[i + 1]) for i in pairs))
        self._sum = array("d", (self._sum[i] + self._sum[i + 1] for i in pairs))
        self.per *= 2

    def points(self) -> tuple[Point, ...]:
        """What is kept, oldest first."""
        last = len(self._x) - 1
        return tuple(
            Point(self._x[i], self._low[i], self._high[i], self._sum[i] / (self._filled if i == last else self.per))
            for i in range(len(self._x))
        )


def binned(xs: array[float], ys: array[float], low: float, high: float, capacity: int = 512) -> tuple[Point, ...]:
    """The values between two x in at most `capacity` points of equally many values; `xs` must not fall."""
    first, last = bisect_left(xs, low), bisect_right(xs, high)
    per = max(1, -(-(last - first) // capacity))
    points = []
    for start in range(first, last, per):
        part = ys[start : min(start + per, last)]
        points.append(Point(xs[start], min(part), max(part), sum(part) / len(part)))
    return tuple(points)


def smoothed(points: Sequence[Point], share: float) -> tuple[Point, ...]:
    """A moving average over points, its window `share` of them wide: from both ends, so that it does not lag."""
    weight = 1 / max(1.0, len(points) * share)
    there = _averages([point.mean for point in points], weight)
    back = _averages([point.mean for point in reversed(points)], weight)[::-1]
    means = [(one + other) / 2 for one, other in zip(there, back, strict=True)]
    return tuple(Point(point.x, mean, mean, mean) for point, mean in zip(points, means, strict=True))


def _averages(values: Sequence[float], weight: float) -> list[float]:
    average, averages = 0.0, []
    for index, value in enumerate(values):
        average += max(weight, 1 / (index + 1)) * (value - average)
        averages.append(average)
    return averages


class Smooth:
    """Moving average whose window grows with the curve: about a twentieth of it, at most 30 values.

    A short run is hardly smoothed, so that the line stays with its dots.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._average, self._count = 0.0, 0

    def add(self, value: float) -> float:
        """Take a value, return the average."""
        share = max(1 / 30, 1 / (1 + self._count / 20))
        self._average += share * (value - self._average)
        self._count += 1
        return self._average
