"""Axes with round labels: plain numbers, powers of ten, or time. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

Ticks = tuple[tuple[float, str], ...]
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_TIME_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200)
_DAY_S = 86400.0
_MOST_TICKS = 50


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; ticks are places and their labels. Of powers of ten, the places are exponents."""

    low: float
    high: float
    ticks: Ticks

    def at(self, value: float, places: int) -> int:
        """Where `value` lies among `places`."""
        return round((value - self.low) / (self.high - self.low) * (places - 1))


def plain_axis(low: float, high: float, count: int) -> Axis:
    """About `count` labels at 1, 2 or 5 times a power of ten; one label where all values are the same."""
    if not high > low:
        return _single(low, short(low))
    step = _round_step((high - low) / max(1, count))
    return Axis(
        low, high, tuple((value, label(value, step, max(abs(low), abs(high)))) for value in _every(low, high, step))
    )


def power_axis(low: float, high: float, count: int) -> Axis:
    """For values from 10^`low` to 10^`high`: labels at 1, 2 and 5 of each decade, or what suits the span."""
    if not high > low:
        return _single(low, short(10**low))
    decades = range(math.floor(low), math.ceil(high) + 1)
    whole = [power for power in decades if low <= power <= high]
    places = [power + math.log10(part) for power in decades for part in (1, 2, 5)]
    places = [place for place in places if low <= place <= high]
    if len(places) < 2:
        plain = plain_axis(10**low, 10**high, count)
        return Axis(low, high, tuple((math.log10(value), text) for value, text in _back(plain.ticks)))
    if len(places) > 1.6 * count and len(whole) > 1:
        places = [float(power) for power in whole[:: -(-len(whole) // max(2, count))]]
    return Axis(low, high, tuple((place, short(10**place)) for place in places))


def time_axis(low: float, high: float, count: int) -> Axis:
    """Seconds, labeled in the unit that suits them."""
    if not high > low:
        return _single(low, _time_label(low, 1.0))
    wanted = (high - low) / max(1, count)
    step = next((float(step) for step in _TIME_STEPS if 1.25 * step >= wanted), 0.0)
    step = step or _DAY_S * max(1.0, _round_step(wanted / _DAY_S))
    return Axis(low, high, tuple((value, _time_label(value, step)) for value in _every(low, high, step)))


def _single(value: float, text: str) -> Axis:
    margin = abs(value) * 0.05 or 0.5
    return Axis(value - margin, value + margin, ((value, text),))


def _back(ticks: Ticks) -> list[tuple[float, str]]:
    return [(value, text) for value, text in ticks if value > 0]


def _round_step(wanted: float) -> float:
    power = 10.0 ** math.floor(math.log10(wanted))
    return next((factor * power for factor in (1, 2, 5) if 1.25 * factor * power >= wanted), 10 * power)


def _every(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [min(max(index * step, low), high) for index in range(first, min(last, first + _MOST_TICKS) + 1)]


def label(value: float, step: float, largest: float) -> str:
    """`value` with the digits that tell labels `step` apart; `largest` decides the unit of all of them."""
    if abs(value) < step * 1e-6:
        return "0"
    if largest < 1e-2:
        digits = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9))
        return _exponent(value, digits)
    size, unit = next(
        ((size, unit) for size, unit in _UNITS if largest >= 10 * size or largest >= size > 1e3), (1.0, "")
    )
    return f"{value / size:,.{_digits(step / size)}f}{unit}"


def _digits(step: float) -> int:
    return max(0, min(6, -math.floor(math.log10(step) + 1e-9)))


def _exponent(value: float, digits: int) -> str:
    mantissa, power = f"{value:.{digits}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"


def short(value: float) -> str:
    """A number by itself, in three digits: `0.02`, `1e-5`, `7,200`, `1.2M`."""
    size = abs(value)
    if size and size < 1e-3:
        return _exponent(value, 2)
    if size >= 1e4:
        step = 10.0 ** (math.floor(math.log10(size)) - 2)
        return label(value, step, size)
    return f"{value:,.0f}" if size >= 100 else f"{value:.3g}"


def _time_label(value: float, step: float) -> str:
    if not value:
        return "0"
    size, unit = next((size, unit) for size, unit in _TIMES if step >= size or size == 1.0)
    return f"{value / size:,.0f} {unit}"
