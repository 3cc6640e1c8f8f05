"""Measures a `transformers.Trainer`, whoever subclassed it: real tokens and seconds of every micro-batch.

Imported by the other scripts of this folder, each in the environment of the tool that it runs. Only
`training_step` is wrapped: what the tool does between micro-batches counts as its time.
"""

from __future__ import annotations

import functools
import json
import resource
import time
from typing import Any

from transformers import Trainer


class Meter:
    """One record a micro-batch; `result` leaves out the first optimizer step, which warms up."""

    def __init__(self, accumulation: int) -> None:
        self.accumulation = accumulation
        self.tokens: list[int] = []
        self.losses: list[float] = []
        self.began: list[float] = []

    def attach(self, trainer_class: type[Trainer]) -> None:
        """Wrap `training_step` of the class that the tool uses."""
        inner = trainer_class.training_step

        @functools.wraps(inner)
        def training_step(trainer: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            self.began.append(time.perf_counter())
            self.tokens.append(real_tokens(inputs))
            loss = inner(trainer, model, inputs, *args, **kwargs)
            self.losses.append(float(loss))
            return loss

        trainer_class.training_step = training_step  # type: ignore[method-assign]

    def result(self) -> dict[str, Any]:
        """Tokens per second after the first step, losses by step, and peak resident memory in bytes."""
        ended, skip = time.perf_counter(), self.accumulation
        seconds, tokens = ended - self.began[skip], sum(self.tokens[skip:])
        steps = [self.losses[start : start + skip] for start in range(0, len(self.losses), skip)]
        return {
            "tokens_per_second": tokens / seconds,
            "tokens": tokens,
            "seconds": seconds,
            "losses": [sum(step) for step in steps],
            "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def real_tokens(inputs: dict[str, Any]) -> int:
    """Tokens of a batch that are no padding: by the mask, or all of a padding-free batch."""
    mask = inputs.get("attention_mask")
    return int(mask.sum()) if mask is not None else int(inputs["input_ids"].numel())


def tell(result: dict[str, Any]) -> None:
    """One JSON line, the last on stdout."""
    print(json.dumps(result), flush=True)
