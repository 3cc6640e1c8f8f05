"""The last two minutes of each card, as series for small charts. No widgets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.api.cards import CardLoad, Loads, place_of
from engine.api.fit import Gpu

KEPT_S = 120.0
Place = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One thing to watch on a card: its name, the scale it is drawn on, how to read it."""

    name: str
    unit: str
    value: Callable[[CardLoad], float | None]
    most: Callable[[CardLoad], float | None]
    """The end of the scale; None = the largest value seen."""
    least: float = 0.0


def _used(load: CardLoad) -> float | None:
    return used_bytes(load.gpu)


def used_bytes(gpu: Gpu) -> int | None:
    """Memory that is taken; None where the driver does not tell."""
    if gpu.used_bytes is not None:
        return gpu.used_bytes
    return None if gpu.total_bytes is None or gpu.free_bytes is None else gpu.total_bytes - gpu.free_bytes


GAUGES = (
    Gauge("util", "%", lambda load: load.gpu.utilization_percent, lambda load: 100.0),
    Gauge("memory", "GiB", _used, lambda load: load.gpu.total_bytes),
    Gauge("power", "W", lambda load: load.gpu.power_w, lambda load: load.gpu.power_limit_w),
    Gauge("heat", "°C", lambda load: load.gpu.temperature_c, lambda load: load.slowdown_c, 20.0),
    Gauge("clock", "MHz", lambda load: load.sm_clock_mhz, lambda load: load.sm_clock_most_mhz),
    Gauge("bus", "GB/s", lambda load: _sum(load.received_bytes_s, load.sent_bytes_s), lambda load: None),
)


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None and second is None else (first or 0.0) + (second or 0.0)


@dataclass(slots=True)
class History:
    """Readings of all cards, oldest first, as long as `KEPT_S`."""

    _readings: deque[Loads] = field(default_factory=deque)

    def add(self, loads: Loads) -> None:
        """Take the newest reading; what is too old goes."""
        self._readings.append(loads)
        while self._readings[0].time_s < loads.time_s - KEPT_S:
            self._readings.popleft()

    @property
    def latest(self) -> Loads | None:
        """The newest reading."""
        return self._readings[-1] if self._readings else None

    def series(self, place: Place, gauge: Gauge) -> list[tuple[float, float]]:
        """(seconds before the newest reading, value) of one card; what was not told is left out."""
        if not self._readings:
            return []
        now = self._readings[-1].time_s
        found = []
        for loads in self._readings:
            load = next((one for one in loads.cards if place_of(one.gpu) == place), None)
            value = gauge.value(load) if load is not None else None
            if value is not None:
                found.append((now - loads.time_s, float(value)))
        return found
