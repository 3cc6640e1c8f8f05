"""Upright bars of eighths of a cell, as many lines high as there is room. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def columns(values: Sequence[float], height: int, most: float = 0.0) -> list[str]:
    """A string of columns for each line from the top; what is not zero is seen."""
    scale = max(most, *values, 0.0) if values else 0.0
    levels = [_level(value / scale, height) if scale and value > 0 else 0 for value in values]
    return ["".join(_EIGHTHS[max(0, min(8, level - 8 * line))] for level in levels) for line in range(height)[::-1]]


def _level(share: float, height: int) -> int:
    return max(1, min(8 * height, round(8 * height * share)))
