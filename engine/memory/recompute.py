"""`train.activation_checkpointing` as a profile writes it, and what it means for a `TrainingShape`.

Not here: what it costs (`activations.py`, `engine.speed`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.memory.shape import TrainingShape

OFFLOAD, ATTENTION = "offload", "attention"


@dataclass(frozen=True, slots=True)
class Recompute:
    """Which layers form their activations again in the backward pass, and what they keep beside their input."""

    every: int
    """0 = none, 1 = every layer, n = every n-th layer."""
    offload_inputs: bool = False
    """The inputs wait in pinned host memory."""
    keep_attention: bool = False
    """Attention's output is kept, so that it is not computed again."""

    def setting(self) -> bool | int | str:
        """The value of `train.activation_checkpointing`."""
        if self.offload_inputs:
            return OFFLOAD
        if self.keep_attention:
            return ATTENTION
        return self.every if self.every > 1 else self.every == 1

    def on(self, shape: TrainingShape) -> TrainingShape:
        """`shape` with this in it."""
        return replace(
            shape,
            checkpoint_every=self.every,
            offload_inputs=self.offload_inputs,
            keep_attention=self.keep_attention,
        )


def recompute_of(setting: bool | int | str) -> Recompute:
    """What a value of `train.activation_checkpointing` means. Raises ValueError for "auto" and other words."""
    if setting == OFFLOAD:
        return Recompute(1, offload_inputs=True)
    if setting == ATTENTION:
        return Recompute(1, keep_attention=True)
    return Recompute(int(setting))


def recompute_in(shape: TrainingShape) -> Recompute:
    """What `shape` has."""
    return Recompute(shape.checkpoint_every, shape.offload_inputs, shape.keep_attention)


CHOICES = (
    Recompute(0),
    Recompute(4),
    Recompute(2),
    Recompute(1, keep_attention=True),
    Recompute(1),
    Recompute(1, offload_inputs=True),
)
"""What is tried on a GPU: the cheapest in time first, the smallest in memory last."""
CPU_CHOICES = (Recompute(0), Recompute(4), Recompute(2), Recompute(1))
