"""The commands of screen 1, and why one is not possible now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.frame.commands import Command

if TYPE_CHECKING:
    from tui.frame.session import DeckState


def _needs_plan(state: DeckState) -> str | None:
    return None if state.plan is not None else "no model is highlighted"


FIT_COMMANDS: tuple[Command, ...] = (
    Command(
        "open", "enter", "estimate", "The estimate term by term; enter again makes a profile", "fit", _needs_plan, 10
    ),
    Command("make", "p", "profile", "Make a profile from the highlighted plan", "fit", _needs_plan, bar=11),
    Command("what_if", "w", "what-if card", "Show what another card could tune", "fit", bar=13),
    Command("filter", "slash", "filter", "Show only models with some words or requirements", "fit", bar=12),
    Command("context", "c", "context", "Change the tokens of one sequence", "fit"),
    Command("task", "t", "task", "Say how hard the task is: simple, medium, high, extreme", "fit"),
    Command("goal", "o", "goal", "Prefer quality or speed", "fit"),
    Command("order_models", "s", "order", "Order models by rank, name, memory or speed; a click does too", "fit"),
    Command("device", "d", "device", "Choose the GPU, MIG slice or processor; a new profile keeps it", "fit"),
    Command("copy_fit", "Y", "copy command", "Copy the shell command that answers the same", "fit"),
    Command("measured", "m", "measured", "Read what runs measured on this machine, beside what was predicted", "fit"),
    Command("forget_measured", "M", "forget measured", "Delete what runs measured here, after a question", "fit"),
    Command("probe", "r", "probe again", "Look at the machine again and rank anew", "fit"),
)
