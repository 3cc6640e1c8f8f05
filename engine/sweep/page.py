"""A sweep's bill as text that reads at 80 columns. Shared by the command line and the deck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.text import format_bytes, format_duration

if TYPE_CHECKING:
    from engine.sweep.prepare import PreparedSweep

_LISTED = 12


def bill_lines(prepared: PreparedSweep) -> list[str]:
    """The bill as text that reads at 80 columns."""
    bill, plan = prepared.bill, prepared.plan
    at_once = f", {bill.parallel} at a time" if bill.parallel > 1 else ""
    time = "not known for this device" if bill.seconds is None else f"about {format_duration(bill.seconds)}"
    pruned = "" if plan.sweep.pruner == "none" else ", less what is pruned"
    lines = [
        f"trials   {bill.trials} ({plan.method}){at_once}, ranked by {plan.sweep.metric}",
        f"time     {time}{pruned}; {format_duration(bill.start_s)} of each trial is its start",
        f"memory   {format_bytes(bill.device_bytes)} the widest trial, {format_bytes(bill.available_bytes)}"
        f" free on {bill.device_name}",
        f"disk     up to {format_bytes(bill.disk_bytes)}, {format_bytes(bill.disk_free_bytes)} free",
    ]
    if bill.sampled:
        lines.append("         (from settings drawn of the space: single trials may take more)")
    if prepared.left_out:
        lines.append(f"left out {len(prepared.left_out)} that cannot run here:")
        lines += [f"  {params_text(cell.params)}: {cell.why}" for cell in prepared.left_out[:_LISTED]]
        more = len(prepared.left_out) - _LISTED
        lines += [f"  and {more} more"] if more > 0 else []
    return lines


def params_text(params: dict[str, Any]) -> str:
    """`lora.r 8, lora.alpha 16`."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in params.items())


def value_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
