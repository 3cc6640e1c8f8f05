"""Figures of steps and evaluations beside the usual ones: rewards, accuracies, whatever else an objective tells."""

from __future__ import annotations

from engine.jsonvalues import number_in
from engine.runs.events import Event

MOST = 24
"""Names kept of one run: an event file may hold anything."""
_OF_EVENTS = frozenset({"v", "seq", "t", "type"})
_USUAL = {
    "train_step": _OF_EVENTS
    | {"step", "steps_total", "epoch", "loss", "learning_rate", "grad_norm"}
    | {"tokens", "step_tokens", "tokens_per_second", "step_s", "eta_s"},
    "eval": _OF_EVENTS
    | {"step", "loss", "best", "tokens", "seconds", "model", "rows", "against", "change", "low", "high"},
}
_PREFIX = {"train_step": "", "eval": "evaluation "}


def own_metrics(event: Event) -> dict[str, float]:
    """Numbers of a `train_step` or `eval` event that have no curve of their own, by their name in words."""
    kind = str(event.get("type"))
    names = event.keys() - _USUAL.get(kind, event.keys())
    if not names:
        return {}
    found = ((name, number_in(event, name)) for name in sorted(names))
    return {_PREFIX[kind] + name.replace("_", " "): value for name, value in found if value is not None}
