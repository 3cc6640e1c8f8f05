"""The commands of screen 3, and why one is not possible now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.frame.commands import Command

if TYPE_CHECKING:
    from tui.frame.session import DeckState
    from tui.run.remedies import Remedies


@dataclass(frozen=True, slots=True)
class RemediesState:
    """What would let the attached run go on, when it failed; None while nobody has looked."""

    remedies: Remedies | None = None


def _needs_run(state: DeckState) -> str | None:
    return None if state.run is not None else "no run is attached: choose one on screen 4"


def _needs_live(state: DeckState) -> str | None:
    if state.snapshot is None:
        return _needs_run(state) or "the run has not been read yet"
    if state.snapshot.is_live:
        return None
    return f"this run is {state.snapshot.state}: no worker is there to ask"


def _needs_training(state: DeckState) -> str | None:
    reason = _needs_live(state)
    if reason is None and state.snapshot is not None and not state.snapshot.step:
        return "training has not begun yet"
    return reason


def _needs_remedy(state: DeckState) -> str | None:
    if state.snapshot is None or state.snapshot.state not in ("failed", "lost"):
        return _needs_run(state) or "only a run that failed needs one"
    remedies = state.of(RemediesState).remedies
    if remedies is None:
        return "still looking for one"
    return None if remedies.items else "none is known: mend what the message says"


def _needs_curves(state: DeckState) -> str | None:
    if state.snapshot is None:
        return _needs_run(state) or "the run has not been read yet"
    curves = state.snapshot.curves
    return None if curves.loss or curves.evals else "the run has no step to draw"


def _needs_answers(state: DeckState) -> str | None:
    if state.snapshot is None:
        return _needs_run(state) or "the run has not been read yet"
    return None if state.snapshot.strips else "it answered nothing: evaluate.prompts of a profile asks"


_WHY_NOT_RESUMED = {
    "completed": "this run is complete: start a new one for more steps",
    "not started": "this run never began: mend it on screen 2, then ^r",
    "removed": "this run was deleted",
}


def _needs_end(state: DeckState) -> str | None:
    """Why the attached run cannot be taken up again."""
    snapshot = state.snapshot
    if snapshot is None:
        return _needs_run(state) or "the run has not been read yet"
    if snapshot.is_live:
        return f"this run is {snapshot.state}: it goes on by itself"
    if snapshot.facts.problem:
        return f"its settings cannot be used: {snapshot.facts.problem}"
    return _WHY_NOT_RESUMED.get(snapshot.state)


def _works(state: DeckState) -> bool:
    """Whether the attached run may still be asked for something."""
    return state.snapshot is None or state.snapshot.is_live


def _has_worker(state: DeckState) -> bool:
    """Whether there is something to stop: the run, or what is left of one that was deleted."""
    return _works(state) or (state.snapshot is not None and state.snapshot.orphan_pid is not None)


def _needs_worker(state: DeckState) -> str | None:
    return None if state.snapshot is not None and _has_worker(state) else _needs_live(state)


RUN_COMMANDS: tuple[Command, ...] = (
    Command("checkpoint", "c", "checkpoint", "Save a checkpoint now", "run", _needs_training, 10, in_bar=_works),
    Command("evaluate", "v", "evaluate", "Evaluate now", "run", _needs_training, 11, in_bar=_works),
    Command("stop", "x", "stop", "Stop the run after a checkpoint", "run", _needs_worker, 12, in_bar=_has_worker),
    Command("resume_run", "r", "resume", "Go on from the newest checkpoint", "run", _needs_end, bar=9, rare=True),
    Command("remedy", "m", "remedy", "Do the first remedy of a failed run", "run", _needs_remedy, bar=8, rare=True),
    Command("remedies", "M", "remedies", "Choose among the remedies of a failed run", "run", _needs_remedy),
    Command(
        "answers",
        "a",
        "answers",
        "Read what it answered to your prompts, step by step",
        "run",
        _needs_answers,
        bar=13,
        rare=True,
    ),
    Command(
        "overview", "i", "overview", "Settings, data, machine, timeline, warnings, files", "run", _needs_run, bar=13
    ),
    Command("log", "l", "log", "Give the log the whole screen", "run", _needs_run, bar=14),
    Command("search", "slash", "find", "Show only lines of the log with some words", "run", _needs_run),
    Command("worker_log", "w", "worker's log", "Read the end of what the worker printed", "run", _needs_run),
    Command("chart", "t", "next curve", "Loss, evaluation, learning rate, gradient norm, …", "run", _needs_run),
    Command("all_curves", "T", "all curves", "All curves at once, under one crosshair", "run", _needs_curves),
    Command("powers_y", "L", "log axis", "Show values as powers of ten, or plainly", "run", _needs_run),
    Command("reference", "b", "reference", "Lay a finished run under this one, or take it away", "run", _needs_run),
    Command("references", "B", "other reference", "Choose which run lies under this one", "run", _needs_run),
    Command("smooth", "s", "smoothing", "None, light, normal, strong", "run", _needs_run),
    Command("zoom_in", "plus,equals_sign", "closer", "Half as much of the curve", "run", _needs_run),
    Command("zoom_out", "minus", "wider", "Twice as much of the curve", "run", _needs_run),
    Command("whole", "0", "whole curve", "All of the curve, without crosshair", "run", _needs_run),
    Command("left", "left", "left", "Crosshair: values at a step; further left", "run", _needs_run),
    Command("right", "right", "right", "Crosshair: values at a step; further right", "run", _needs_run),
    Command("far_left", "comma,shift+left", "far left", "Crosshair ten columns left", "run", _needs_run),
    Command("far_right", "full_stop,shift+right", "far right", "Crosshair ten columns right", "run", _needs_run),
    Command("zoom", "z", "zoom", "Give the curve the whole screen", "run", _needs_run),
    Command("pause", "p", "pause view", "Hold this picture still; the run goes on", "run", _needs_run),
    Command("copy", "y", "copy log", "Copy the log to the clipboard and to a file", "run", _needs_run),
    Command("follow", "G,end", "follow log", "Go to the end of the log and follow it", "run", _needs_run),
)
