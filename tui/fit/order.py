"""In which order models stand: by rank, as the engine gives them, or by a column. Pure functions of plans."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.fit import Plan

ORDERS = ("rank", "model", "predicted", "tokens/s")


def ordered(plans: Sequence[Plan], order: str) -> list[Plan]:
    """Names from A on, the least memory first, the fastest first; what is not known comes last."""
    if order == "model":
        return sorted(plans, key=lambda plan: plan.model.name.rpartition("/")[2].casefold())
    if order == "predicted":
        return sorted(plans, key=lambda plan: plan.estimate.device_bytes)
    if order == "tokens/s":
        return sorted(plans, key=lambda plan: -(plan.tokens_per_second or 0.0))
    return list(plans)
