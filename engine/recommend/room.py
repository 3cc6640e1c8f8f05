"""A device's memory as a run would find it, and why a verdict is not `OK`: in bytes and in a few words.

The parts of `Room` add up to the device's memory, or where the run does not fit, to that and what is short.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.memory.activations import host_bytes
from engine.memory.shape import Term
from engine.recommend.candidates import HEADROOM, SLOW_TOKENS_PER_SECOND
from engine.recommend.plan import CONTEXT, MAIN_MEMORY, MEMORY, SPEED, Plan
from engine.text import format_bytes


@dataclass(frozen=True, slots=True)
class Room:
    """What holds a device's memory at the peak of a run."""

    taken_bytes: int
    """Held by others now."""
    terms: tuple[Term, ...]
    """Of the run."""
    margin_bytes: int
    """Left for what others may take until then, or above what the run may have."""
    free_bytes: int
    """Free besides."""
    short_bytes: int
    """Missing for the run."""
    total_bytes: int


def room_of(plan: Plan) -> Room:
    """The memory of the plan's device, part by part."""
    free = max(plan.free_bytes, plan.available_bytes)
    total = max(plan.total_bytes, free)
    spare = plan.headroom_bytes
    return Room(
        taken_bytes=total - free,
        terms=plan.estimate.terms,
        margin_bytes=free - plan.available_bytes,
        free_bytes=max(0, spare),
        short_bytes=max(0, -spare),
        total_bytes=total,
    )


def limit_words(plan: Plan) -> str:
    """Why the verdict is not `OK`: `11.0 GiB short`, `slow: under 30 tokens/s`; empty for an `OK`."""
    words = {
        MEMORY: f"under {HEADROOM:.0%} to spare",
        SPEED: f"slow: under {SLOW_TOKENS_PER_SECOND:.0f} tokens/s",
        CONTEXT: f"the model reads {plan.model.max_position_embeddings:,} tokens, not {plan.shape.max_length:,}",
        MAIN_MEMORY: f"{format_bytes(host_bytes(plan.model, plan.shape))} of inputs in main memory are too much",
    }
    if plan.verdict == "NO" and plan.headroom_bytes < 0:
        return f"{format_bytes(-plan.headroom_bytes)} short"
    return words.get(plan.limit, "")
