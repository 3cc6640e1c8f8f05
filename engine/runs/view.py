"""A run as it stands, folded from its events: what `engine runs` prints and the deck draws.

Pure: `RunFold.apply` takes one event after the other; nothing here reads files or clocks.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from engine.hardware.cards import model_name
from engine.jsonvalues import number_in, whole_in
from engine.runs.events import Event
from engine.runs.metrics import MOST, own_metrics
from engine.runs.samples import Samples
from engine.runs.samples import apply as apply_sample
from engine.text import format_bytes, format_count

RECENT_LINES = 500
_LAST_MOMENT_S = 1e11
"""A later time is none: no clock shows the year 5000."""
_SAMPLE_CHARS = 120
PHASE_WORDS = {
    "load": "loading the model",
    "data": "reading data",
    "check": "checking the fit",
    "measure": "measuring the device",
    "train": "training",
    "evaluate": "evaluating",
    "checkpoint": "saving a checkpoint",
    "save": "saving what was learned",
    "export": "writing the adapter",
}
"""What a run does in a phase."""
BEGINNINGS = frozenset({"measure", "data", "load"})
"""Phases with which a worker begins its work."""
_OF_THE_MOMENT = frozenset({"tokens_per_second", "step_s", "eta_s"})
"""Figures of a step that say nothing once its worker has ended."""


def _numbers() -> array[float]:
    return array("d")


def _number(event: Event, key: str) -> float:
    found = number_in(event, key)
    return float("nan") if found is None else found


@dataclass(slots=True)
class Curve:
    """Points of one quantity over optimizer steps."""

    steps: array[float] = field(default_factory=_numbers)
    values: array[float] = field(default_factory=_numbers)

    def append(self, step: float, value: float) -> None:
        """Add a point; one that is not a number is left out."""
        if value == value and step == step:
            self.steps.append(step)
            self.values.append(value)

    def cut_after(self, step: float) -> None:
        """Drop points behind `step`: a resumed run draws them anew."""
        while self.steps and self.steps[-1] > step:
            self.steps.pop()
            self.values.pop()


@dataclass(slots=True)
class RunFold:
    """Everything known of a run after the events applied so far."""

    started: Event = field(default_factory=dict)
    phase: str = ""
    phase_detail: str = ""
    phases: list[str] = field(default_factory=list)
    """Phases that the present worker has gone through, its present one last."""
    phase_since: float = 0.0
    """Unix time at which the present phase began."""
    progress: Event = field(default_factory=dict)
    step: int = 0
    steps_total: int = 0
    last_step: Event = field(default_factory=dict)
    last_eval: Event = field(default_factory=dict)
    best_eval: Event = field(default_factory=dict)
    last_memory: Event = field(default_factory=dict)
    calibration: Event = field(default_factory=dict)
    """Predicted against measured memory, as it was last told."""
    shortage: Event = field(default_factory=dict)
    """What the run could have had when memory ran out."""
    last_checkpoint: Event = field(default_factory=dict)
    finished: Event = field(default_factory=dict)
    error: Event = field(default_factory=dict)
    loss: Curve = field(default_factory=Curve)
    eval_loss: Curve = field(default_factory=Curve)
    learning_rate: Curve = field(default_factory=Curve)
    grad_norm: Curve = field(default_factory=Curve)
    tokens_per_second: Curve = field(default_factory=Curve)
    samples: Samples = field(default_factory=Samples)
    """Answers to the run's fixed prompts; not sanitised."""
    metrics: dict[str, Curve] = field(default_factory=dict)
    """Whatever else steps and evaluations told, by its name in words; not sanitised."""
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    """(unix time, event type, text) of what a log pane shows; not sanitised."""
    warnings: int = 0
    last_time: float = 0.0

    def apply(self, event: Event) -> None:
        """Take one event; unknown types only move the clock. One whose values are of another kind is passed over."""
        moment = event.get("t")
        if isinstance(moment, (int, float)) and 0 < moment < _LAST_MOMENT_S:
            self.last_time = float(moment)
        handler = _HANDLERS.get(str(event.get("type")))
        try:
            if handler is not None:
                handler(self, event)
            text = describe(event)
        except (TypeError, ValueError, OverflowError, AttributeError):
            return
        if text:
            self.lines.append((self.last_time, str(event["type"]), text))
            if len(self.lines) > 2 * RECENT_LINES:
                del self.lines[:RECENT_LINES]


def _started(fold: RunFold, event: Event) -> None:
    fold.started = event
    fold.finished, fold.error = {}, {}
    _forget_pace(fold)
    fold.steps_total = whole_in(event, "steps_total") or 0
    resumed = whole_in(event, "resumed_from_step")
    apply_sample(fold.samples, event)
    if resumed is not None:
        fold.step = resumed
        usual = (fold.loss, fold.eval_loss, fold.learning_rate, fold.grad_norm, fold.tokens_per_second)
        for curve in (*usual, *fold.metrics.values()):
            curve.cut_after(resumed)


def _forget_pace(fold: RunFold) -> None:
    """A worker begins: what the one before took for a step is no longer so."""
    fold.last_step = {key: value for key, value in fold.last_step.items() if key not in _OF_THE_MOMENT}


def _phase(fold: RunFold, event: Event) -> None:
    name = str(event.get("name", ""))
    begins = name in BEGINNINGS and name != fold.phase
    if begins and any(known == name or known not in BEGINNINGS for known in fold.phases):
        fold.phases = []
        _forget_pace(fold)
    if name and name not in fold.phases:
        fold.phases.append(name)
    if name != fold.phase:
        fold.phase_since = fold.last_time
    fold.phase, fold.phase_detail = name, str(event.get("detail", ""))
    fold.progress = {}


def _progress(fold: RunFold, event: Event) -> None:
    fold.progress = event


def _train_step(fold: RunFold, event: Event) -> None:
    fold.last_step = event
    fold.phase, fold.phase_detail, fold.progress = "train", "", {}
    fold.step = whole_in(event, "step") or fold.step
    fold.steps_total = whole_in(event, "steps_total") or fold.steps_total
    fold.loss.append(fold.step, _number(event, "loss"))
    fold.learning_rate.append(fold.step, _number(event, "learning_rate"))
    fold.grad_norm.append(fold.step, _number(event, "grad_norm"))
    fold.tokens_per_second.append(fold.step, _number(event, "tokens_per_second"))
    _own_metrics(fold, fold.step, event)


def _eval(fold: RunFold, event: Event) -> None:
    fold.last_eval, fold.progress = event, {}
    fold.eval_loss.append(_number(event, "step"), _number(event, "loss"))
    if not event.get("model"):
        _own_metrics(fold, _number(event, "step"), event)
    if event.get("best"):
        fold.best_eval = event


def _sample(fold: RunFold, event: Event) -> None:
    fold.progress = {}
    apply_sample(fold.samples, event)


def _own_metrics(fold: RunFold, step: float, event: Event) -> None:
    for name, value in own_metrics(event).items():
        if name in fold.metrics or len(fold.metrics) < MOST:
            fold.metrics.setdefault(name, Curve()).append(step, value)


def _memory(fold: RunFold, event: Event) -> None:
    fold.last_memory = event


def _calibration(fold: RunFold, event: Event) -> None:
    if event.get("stage") == "out_of_memory":
        fold.shortage = event
    if isinstance(event.get("predicted"), dict) and isinstance(event.get("measured"), dict):
        fold.calibration = event


def _checkpoint(fold: RunFold, event: Event) -> None:
    fold.last_checkpoint = event


def _warning(fold: RunFold, event: Event) -> None:
    fold.warnings += 1


def _error(fold: RunFold, event: Event) -> None:
    fold.error = event


def _finished(fold: RunFold, event: Event) -> None:
    fold.finished = event
    fold.phase, fold.progress = "", {}


_HANDLERS: dict[str, Any] = {
    "started": _started,
    "phase": _phase,
    "progress": _progress,
    "train_step": _train_step,
    "eval": _eval,
    "sample": _sample,
    "memory": _memory,
    "calibration": _calibration,
    "checkpoint": _checkpoint,
    "warning": _warning,
    "error": _error,
    "finished": _finished,
}


def _towers(event: Event) -> str:
    """What a model that also sees or hears keeps as it is."""
    names = event.get("towers")
    if not isinstance(names, list) or not names:
        return ""
    size = event.get("tower_parameters")
    known = f" ({format_count(size)} parameters)" if isinstance(size, int) else ""
    kept = [str(name).rpartition(".")[2] for name in names]
    stays = "stays as it is" if len(kept) == 1 else "stay as they are"
    return f"; its text side learns, {', '.join(kept)} {stays}{known}"


def describe(event: Event) -> str:
    """One line of log for an event, empty for those that only move numbers. Not sanitised."""
    kind = event.get("type")
    if kind == "eval":
        best = ", best so far" if event.get("best") else ""
        if event.get("model"):
            return f"{event['model']}: loss {_short(event.get('loss'))}"
        right = event.get("accuracy")
        ahead = f", {right:.0%} of pairs right" if isinstance(right, float) else ""
        return f"evaluated at step {event.get('step')}: loss {_short(event.get('loss'))}{ahead}{best}{_against(event)}"
    if kind == "checkpoint":
        size_mib = (whole_in(event, "bytes") or 0) / 2**20
        return f"checkpoint step {event.get('step')} saved, {size_mib:.1f} MiB ({event.get('reason')})"
    if kind == "started":
        resumed = event.get("resumed_from_step")
        device, card = event.get("device"), event.get("card")
        place = f"{card} {model_name(str(device))}" if card else device
        return (
            (f"training on {place}" if device else "started")
            + (f", resumed from step {resumed}" if resumed is not None else "")
            + _towers(event)
        )
    if kind == "finished":
        at = f" at step {event['step']}" if event.get("step") is not None else ""
        return f"{event.get('outcome')}{at}"
    if kind == "calibration":
        return _compared(event) if event.get("stage") == "first_steps" else ""
    if kind == "trial":
        return _trial(event)
    if kind == "sample":
        return _answered(event)
    templates = {
        "phase": "{name} {detail}",
        "warning": "warning: {message}",
        "error": "error: {message}",
        "control": "{request}: {outcome}",
    }
    template = templates.get(str(kind))
    if template is None:
        return ""
    known = {"name": "", "detail": "", "message": "", "request": "", "outcome": ""}
    return template.format(**{**known, **{key: value for key, value in event.items() if key in known}}).strip()


def _against(event: Event) -> str:
    """The change against the best evaluation before, and whether it could be chance."""
    change, low, high = (number_in(event, key) for key in ("change", "low", "high"))
    if change is None or low is None or high is None:
        return ""
    chance = ", could be chance" if low <= 0 <= high else ""
    # Late in a run changes are small: four places would say that nothing changed.
    form = "+.4f" if max(abs(low), abs(high)) >= 0.001 else "+.1e"
    return f" ({change:{form}} [{low:{form}}, {high:{form}}] against step {event.get('against')}{chance})"


def _answered(event: Event) -> str:
    """An answer in a line, both texts shortened: the whole ones are shown where there is room."""
    prompt, output = (_line_of(event.get(key)) for key in ("prompt", "output"))
    at = f"step {event['step']}: " if event.get("step") is not None else ""
    tokens, seconds = event.get("tokens"), event.get("seconds")
    facts = [f"{tokens:,} token{'s' * (tokens != 1)}"] if isinstance(tokens, int) else []
    facts += [f"{seconds:.1f} s"] if isinstance(seconds, (int, float)) else []
    facts += ["cut"] if event.get("ended") is False else []
    return f"sample {at}{prompt} -> {output}" + (f" ({', '.join(facts)})" if facts else "")


def _line_of(text: Any) -> str:
    words = " ".join(str(text or "").split())
    return f'"{words}"' if len(words) <= _SAMPLE_CHARS else f'"{words[:_SAMPLE_CHARS].rstrip()} …"'


def _trial(event: Event) -> str:
    params = event.get("params")
    shown = ", ".join(f"{key} {value}" for key, value in params.items()) if isinstance(params, dict) else ""
    value, why = event.get("value"), event.get("reason")
    told = f": {event.get('metric')} {_short(value)}" if value is not None else ""
    return f"trial {event.get('trial')} {event.get('state')}{told} ({shown})" + (f" - {why}" if why else "")


def _compared(event: Event) -> str:
    promised, measured = widest(event)
    if not promised or not measured:
        return ""
    error = (promised / measured - 1) * 100
    return f"first steps took {format_bytes(measured)}, predicted {format_bytes(promised)} ({error:+.1f} %)"


def widest(event: Event) -> tuple[float | None, float | None]:
    """Predicted and measured bytes of the widest thing a `calibration` event has both of; None and None for none."""
    for name in ("device_bytes", "reserved_bytes"):
        promised, measured = amount(event.get("predicted"), name), amount(event.get("measured"), name)
        if promised and measured:
            return promised, measured
    return None, None


def amount(figures: Any, name: str) -> float | None:
    """A number of an event's table; None when there is none."""
    found = figures.get(name) if isinstance(figures, dict) else None
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else "n/a"
