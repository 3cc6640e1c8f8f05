"""What happened in a run and when: moments with their clock times and durations, and every warning in full.

Folded from events; nothing here reads files or clocks. Steps leave no moment of their own but the first of each worker.
Not here: what is wrong now (`health.py`), the newest numbers (`view.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.jsonvalues import number_in, text_in, whole_in
from engine.runs.events import Event
from engine.runs.view import BEGINNINGS, PHASE_WORDS, describe
from engine.text import format_duration


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. `kind`: the event's type, `begin` where a worker began, `first_step`."""

    at_s: float
    """Unix time."""
    kind: str
    text: str
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class ToldWarning:
    """A warning of the worker, in full; told several times in the same words it is one."""

    at_s: float
    code: str
    message: str
    step: int = 0
    times: int = 1


@dataclass(slots=True)
class TimelineFold:
    """Moments and warnings after the events applied so far."""

    moments: list[Moment] = field(default_factory=list)
    _warnings: dict[tuple[str, str], ToldWarning] = field(default_factory=dict)
    _open: tuple[str, list[str], float] | None = None
    """Phase under way: its name, its details, and when it began."""
    _begun: bool = False
    _trains: bool = False
    """Whether the worker has got through its preparation."""
    _stepped: bool = False
    _ended_s: float | None = None
    _step: int = 0
    _now_s: float = 0.0

    @property
    def warnings(self) -> tuple[ToldWarning, ...]:
        """Every warning, the first one first."""
        return tuple(self._warnings.values())

    def apply(self, event: Event) -> None:
        """Take one event."""
        self._now_s = number_in(event, "t") or self._now_s
        kind = str(event.get("type"))
        if not self._begun:
            self._begin("the worker starts")
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, event)

    def shown(self) -> tuple[Moment, ...]:
        """All moments, the phase under way among them."""
        return (*self.moments, self._phase_moment(None)) if self._open else tuple(self.moments)

    def _begin(self, text: str) -> None:
        self._begun, self._trains, self._stepped, self._ended_s = True, False, False, None
        self._add("begin", text)

    def _add(self, kind: str, text: str, took_s: float | None = None) -> None:
        self.moments.append(Moment(self._now_s, kind, text, took_s))

    def _phase_moment(self, ended_s: float | None) -> Moment:
        name, details, began_s = self._open or ("", [], self._now_s)
        words = PHASE_WORDS.get(name, name)
        text = f"{words}: {', '.join(details)}" if details else words
        return Moment(began_s, "phase", text, None if ended_s is None else max(0.0, ended_s - began_s))

    def _close(self) -> None:
        """The phase under way is over."""
        if self._open is not None:
            self.moments.append(self._phase_moment(self._now_s))
            self._open = None


def _phase(fold: TimelineFold, event: Event) -> None:
    name, detail = text_in(event, "name"), text_in(event, "detail")
    if name in BEGINNINGS and (fold._trains or fold._ended_s is not None):
        fold._close()
        fold._begin(_again(fold))
    if fold._open is not None and fold._open[0] == name:
        fold._open[1].extend([detail] if detail else [])
        return
    fold._close()
    if name != "train":  # `started` has said it
        fold._open = (name, [detail] if detail else [], fold._now_s)


def _again(fold: TimelineFold) -> str:
    if fold._ended_s is None:
        return "a worker starts again; the one before ended without saying why"
    return f"a worker starts again, {format_duration(fold._now_s - fold._ended_s)} after the end"


def _started(fold: TimelineFold, event: Event) -> None:
    fold._close()
    fold._trains = True
    total, evals, saves = (whole_in(event, key) for key in ("steps_total", "eval_steps", "save_steps"))
    plan = [f"{total:,} steps"] if total else []
    plan += [f"evaluated every {evals:,}"] if evals else []
    plan += [f"saved every {saves:,}"] if saves else []
    fold._add("started", ": ".join([describe(event), *([", ".join(plan)] if plan else [])]))


def _train_step(fold: TimelineFold, event: Event) -> None:
    fold._step = whole_in(event, "step") or fold._step
    if not fold._stepped:
        fold._close()
        fold._trains = fold._stepped = True
        fold._add("first_step", f"step {fold._step:,} is done: the first of this worker", number_in(event, "step_s"))


def _told(fold: TimelineFold, event: Event) -> None:
    """An evaluation, a checkpoint, a request, what memory the first steps took: as the log says it."""
    text = describe(event)
    if text:
        fold._add(str(event["type"]), text, number_in(event, "seconds"))


def _eval(fold: TimelineFold, event: Event) -> None:
    if fold._open is not None and fold._open[0] == "evaluate":
        fold._open = None  # the line below has its duration
    _told(fold, event)


def _warning(fold: TimelineFold, event: Event) -> None:
    code, message = text_in(event, "code"), text_in(event, "message")
    known = fold._warnings.get((code, message))
    new = ToldWarning(fold._now_s, code, message, fold._step)
    fold._warnings[code, message] = new if known is None else replace(known, times=known.times + 1)


def _error(fold: TimelineFold, event: Event) -> None:
    fold._close()
    hint = text_in(event, "hint")
    fold._add("error", describe(event) + (f" - {hint}" if hint else ""))


def _finished(fold: TimelineFold, event: Event) -> None:
    fold._close()
    reason = text_in(event, "reason") if event.get("outcome") == "stopped" else ""
    fold._ended_s = fold._now_s
    fold._add("finished", describe(event) + (f": {reason}" if reason else ""), number_in(event, "seconds"))


_HANDLERS: dict[str, Callable[[TimelineFold, Event], None]] = {
    "phase": _phase,
    "started": _started,
    "train_step": _train_step,
    "eval": _eval,
    "checkpoint": _told,
    "control": _told,
    "calibration": _told,
    "warning": _warning,
    "error": _error,
    "finished": _finished,
}
