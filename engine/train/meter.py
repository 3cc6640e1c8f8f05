"""Tokens, step times and the time that is left, from measurement. No torch.

The clock runs from one step's end to the next, so that data loading counts; evaluation and saving are
taken out by `restart`.
"""

from __future__ import annotations

import time

_SMOOTHING = 0.9


class Meter:
    """Throughput of real (not padding) tokens between log lines, and a smoothed step time."""

    def __init__(self) -> None:
        self.tokens_total = 0
        self._tokens = 0
        self._seconds = 0.0
        self._steps = 0
        self._step_tokens = 0
        self._smooth_s: float | None = None
        self._mark = time.monotonic()

    def restart(self) -> None:
        """Start the clock anew: what happened since the last step was not training."""
        self._mark = time.monotonic()

    def add_tokens(self, count: int) -> None:
        """Count the real tokens of a micro-batch."""
        self._step_tokens += count

    def end_step(self) -> None:
        """An optimizer step is done."""
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        self._seconds += seconds
        self._steps += 1
        self._tokens += self._step_tokens
        self.tokens_total += self._step_tokens
        self._step_tokens = 0
        previous = self._smooth_s
        self._smooth_s = seconds if previous is None else _SMOOTHING * previous + (1 - _SMOOTHING) * seconds

    def take(self, steps_left: int) -> dict[str, float | int | None]:
        """Fields of a `train_step` event for the steps since the last call."""
        seconds, steps, tokens = self._seconds, self._steps, self._tokens
        self._seconds, self._steps, self._tokens = 0.0, 0, 0
        return {
            "tokens": self.tokens_total,
            "step_tokens": tokens,
            "tokens_per_second": tokens / seconds if seconds > 0 else None,
            "step_s": seconds / steps if steps else None,
            "eta_s": None if self._smooth_s is None else self._smooth_s * steps_left,
        }
