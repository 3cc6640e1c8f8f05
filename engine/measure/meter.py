"""Tokens, step times and the time that is left, from measurement. No torch.

The clock runs from one step's end to the next, so that data loading counts. Evaluation and saving are taken
out of it by `restart` and come back into the time that is left, each as often as it is still due.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from statistics import fmean, median

_WARM_UP_STEPS = 2
"""Steps that also load kernels and make optimizer states."""
_RECENT_STEPS = 50
_KEPT_STEPS = 1000


class Meter:
    """Throughput of real (not padding) tokens between log lines, step times, and what interrupts them."""

    def __init__(self) -> None:
        self.tokens_total = 0
        self._tokens = 0
        self._seconds = 0.0
        self._steps = 0
        self._step_tokens = 0
        self._steps_s: deque[float] = deque(maxlen=_KEPT_STEPS)
        self._steps_seen = 0
        self._pauses_s: dict[str, list[float]] = {}
        self._mark = time.monotonic()

    def restart(self) -> None:
        """Start the clock anew: what happened since the last step was not training."""
        self._mark = time.monotonic()

    def add_tokens(self, count: int) -> None:
        """Count the real tokens of a micro-batch."""
        self._step_tokens += count

    def add_pause(self, kind: str, seconds: float) -> None:
        """An evaluation or a checkpoint took `seconds`."""
        self._pauses_s.setdefault(kind, []).append(seconds)

    def end_step(self) -> None:
        """An optimizer step is done."""
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        self._seconds += seconds
        self._steps += 1
        self._tokens += self._step_tokens
        self.tokens_total += self._step_tokens
        self._step_tokens = 0
        self._steps_seen += 1
        self._steps_s.append(seconds)

    def median_step_s(self) -> float | None:
        """Seconds of the median step after the first ones; None before there are as many again."""
        warm = self._warm()
        return median(warm) if len(warm) >= _WARM_UP_STEPS else None

    def take(self, steps_left: int, due: Mapping[str, int] | None = None) -> dict[str, float | int | None]:
        """Fields of a `train_step` event for the steps since the last call; `due`: how often each pause is to come."""
        seconds, steps, tokens = self._seconds, self._steps, self._tokens
        self._seconds, self._steps, self._tokens = 0.0, 0, 0
        return {
            "tokens": self.tokens_total,
            "step_tokens": tokens,
            "tokens_per_second": tokens / seconds if seconds > 0 else None,
            "step_s": seconds / steps if steps else None,
            "eta_s": self._left_s(steps_left, due or {}),
        }

    def _left_s(self, steps_left: int, due: Mapping[str, int]) -> float | None:
        if not self._steps_s:
            return None
        recent = (self._warm() or list(self._steps_s))[-_RECENT_STEPS:]
        pauses = sum(median(self._pauses_s[kind]) * times for kind, times in due.items() if kind in self._pauses_s)
        return fmean(recent) * steps_left + pauses

    def _warm(self) -> list[float]:
        """Times of the steps kept, without the first of the run."""
        kept = list(self._steps_s)
        return kept[max(0, _WARM_UP_STEPS - (self._steps_seen - len(kept))) :]


def times_due(every: int, step: int, last: int) -> int:
    """How often something done every `every` steps and at the `last` one is still due, `step` included; 0 = never."""
    if not every or step > last:
        return 0
    return last // every - (step - 1) // every + (last % every > 0)
