"""A sweep's cost as text that reads at 80 columns. Shared by the command line and the deck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.text import format_bytes, format_duration

if TYPE_CHECKING:
    from engine.sweep.prepare import PreparedSweep

_LISTED = 12


def cost_lines(prepared: PreparedSweep) -> list[str]:
    """The cost as text that reads at 80 columns."""
    cost, plan = prepared.cost, prepared.plan
    at_once = f", {cost.parallel} at a time" if cost.parallel > 1 else ""
    time = "not known for this device" if cost.seconds is None else f"about {format_duration(cost.seconds)}"
    pruned = "" if plan.sweep.pruner == "none" else ", less what is pruned"
    lines = [
        f"trials   {cost.trials} ({plan.method}){at_once}, ranked by {plan.sweep.metric}",
        f"time     {time}{pruned}; {format_duration(cost.start_s)} of each trial is its start",
        f"memory   {format_bytes(cost.device_bytes)} the widest trial, {format_bytes(cost.available_bytes)}"
        f" free on {cost.device_name}",
        f"disk     up to {format_bytes(cost.disk_bytes)}, {format_bytes(cost.disk_free_bytes)} free",
    ]
    if cost.sampled:
        lines.append("         (from settings drawn of the space: single trials may take more)")
    if prepared.left_out:
        lines.append(f"left out {len(prepared.left_out)} that cannot run here:")
        lines += [
            f"  {params_text(combination.params)}: {combination.why}" for combination in prepared.left_out[:_LISTED]
        ]
        more = len(prepared.left_out) - _LISTED
        lines += [f"  and {more} more"] if more > 0 else []
    return lines


def params_text(params: dict[str, Any]) -> str:
    """`lora.r 8, lora.alpha 16`."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in params.items())


def value_text(value: Any) -> str:
    """A setting's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
