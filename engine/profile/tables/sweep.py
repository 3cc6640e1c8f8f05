"""Settings of a search over other settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from engine.profile.tables.base import Table, setting


class Sweep(Table):
    """What `engine sweep` varies, how it searches, and what it keeps. `engine train` does not look at it."""

    space: dict[str, Any] = setting(
        {},
        "Settings to vary: `lora.r = [8, 16]`, `train.learning_rate = { low = 1e-5, high = 1e-3, log = true }`,"
        ' or several that change together: `"lora.r, lora.alpha" = [[8, 16], [16, 32]]`.',
    )
    method: Literal["grid", "random", "tpe"] | None = setting(
        None, "grid = every combination; random; tpe = learns where to look; unset = tpe where there is a range."
    )
    trials: int = setting(20, "Trainings of random and tpe; grid takes every combination.", ge=1, le=100_000)
    metric: Literal[
        "eval_loss",
        "exact_match",
        "token_f1",
        "rouge1",
        "rouge2",
        "rougeL",
        "bleu",
        "chrf",
        "bertscore_f1",
        "tools_right",
        "arguments_right",
    ] = setting(
        "eval_loss",
        "What ranks the trials: the best evaluation loss, or a score of answers to the held-out rows.",
    )
    pruner: Literal["median", "halving", "none"] = setting(
        "median",
        "Ends poor trials early, by their evaluation loss: worse than the median of the others at the same step,"
        " or outside the better half at each doubling of steps.",
    )
    parallel: Annotated[int, Field(ge=1, le=1024)] | None = setting(
        None, "Trials at once; unset = one on each GPU that is free enough, one on a processor.", advanced=True
    )
    max_hours: Annotated[float, Field(gt=0, le=10_000)] | None = setting(
        None, "Start no further trial after this time; those that run go on to their end.", unit="h"
    )
    keep_weights: Annotated[int, Field(ge=1, le=100_000)] | None = setting(
        None, "Keep weights and checkpoints of the n best trials only; unset = of all.", unit="trials"
    )
    seed: int = setting(0, "Seed of random and tpe.", ge=0, le=2**31 - 1, advanced=True)
