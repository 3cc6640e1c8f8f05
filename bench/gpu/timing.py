"""Steady steps of a speed run: medians after the first two, which load, tune and compile. Standard library only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

WARM_UP_STEPS = 2
KEPT_LOSSES = 8


def steady(step_s: Sequence[float], step_tokens: Sequence[int], losses: Sequence[float]) -> dict[str, Any]:
    """Median seconds and tokens per second of the steps after the warm-up, with what they are made of.

    `tokens_per_second_mean` takes all of those steps together, and so counts what is compiled late. Raises ValueError
    where no step is left.
    """
    seconds, tokens = list(step_s)[WARM_UP_STEPS:], list(step_tokens)[WARM_UP_STEPS:]
    if not seconds:
        raise ValueError(f"{len(step_s)} steps: {WARM_UP_STEPS} are left out and none is left")
    return {
        "median_step_s": statistics.median(seconds),
        "tokens_per_second": statistics.median(count / time for count, time in zip(tokens, seconds, strict=True)),
        "tokens_per_second_mean": sum(tokens) / sum(seconds),
        "tokens_per_step": sum(tokens) / len(tokens),
        "step_s": [round(time, 4) for time in step_s],
        "losses": [round(loss, 4) for loss in losses][:KEPT_LOSSES],
    }
