"""What is going wrong in a run, in words, while it happens: folded from its events, with what helps.

One list for the run screen, `engine runs show` and `engine runs watch`. A concern goes when its cause does. Not here:
errors, which end a run and have remedies (`engine.resolve.remedies`), and warnings, which the worker tells once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from engine.jsonvalues import number_in
from engine.runs.events import Event
from engine.text import format_bytes, format_duration

SETTLED_STEPS = 20
"""Before that many steps loss, gradient and speed say little."""
DIVERGED = 3.0
"""Times its best at which a loss has gone astray."""
NOTABLE_SHARE = 0.1
"""Of the first loss: a smaller rise is the noise of a loss that is nearly nothing."""
RISES = 3
"""Evaluations in a row that rise."""
SPIKE = 10.0
"""Times the usual gradient."""
SLOW_SHARE = 0.6
"""Of the speed that was planned: closed forms are good to a third."""
_SLOWED_LOOKS = 10
_SMOOTHING = 0.1
_SPIKE_SHOWN_STEPS = 20
_KEPT = 100
"""Concerns of the past."""
_DISK_SPAN_S, _DISK_LEFT_S = 120.0, 1800.0
_SILENT_S, _SILENT_STEPS = 300.0, 20.0
_EXPECTED_SLOWDOWN = frozenset({"power limit"})
"""Cards run against it whenever they are well used."""


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that goes wrong: a stable code, what it is in words, and what to do."""

    code: str
    text: str
    hint: str
    step: int = 0
    """Where it began, as far as that is a step."""


@dataclass(slots=True)
class HealthFold:
    """Health of a run after the events applied so far; `planned_tokens_per_second` as it was predicted."""

    planned_tokens_per_second: float | None = None
    _steps: int = 0
    _step: int = 0
    _loss: float = math.nan
    _first_loss: float = math.nan
    _best_loss: float = math.inf
    _best_step: int = 0
    _evals: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RISES + 1))
    _best_eval: tuple[int, float] = (0, math.inf)
    _grads: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _first_grad: float = 0.0
    """The largest of the first steps: what a run begins with does no harm later."""
    _spike: tuple[int, float, float] | None = None
    _speeds: deque[float] = field(default_factory=lambda: deque(maxlen=10))
    _step_s: float = 0.0
    _slowed: deque[frozenset[str]] = field(default_factory=lambda: deque(maxlen=_SLOWED_LOOKS))
    _disk: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=180))
    _checkpoint_bytes: float = 0.0
    _last_time: float = 0.0
    _training: bool = False
    _present: frozenset[tuple[str, int]] = frozenset()
    _history: deque[Concern] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def apply(self, event: Event) -> None:
        """Take one event."""
        self._last_time = number_in(event, "t") or self._last_time
        kind = event.get("type")
        if kind == "started":
            self._begin(event)
        elif kind == "train_step":
            self._take_step(event)
        elif kind == "eval" and not event.get("model"):
            self._take_eval(event)
        elif kind == "memory":
            self._take_memory(event)
        elif kind == "checkpoint":
            self._checkpoint_bytes = number_in(event, "bytes") or 0.0
        elif kind in ("phase", "finished", "error"):
            self._training = kind == "phase" and event.get("name") in ("train", "evaluate")
        if kind in ("train_step", "eval"):
            self._remember(int(number_in(event, "step") or self._step))

    def _begin(self, event: Event) -> None:
        """A resumed run: what came after its checkpoint is done anew."""
        fresh = HealthFold(self.planned_tokens_per_second)
        for name in ("_steps", "_loss", "_grads", "_spike", "_speeds", "_slowed", "_disk"):
            setattr(self, name, getattr(fresh, name))
        at = number_in(event, "resumed_from_step")
        self._evals = deque([one for one in self._evals if at is not None and one[0] <= at], maxlen=RISES + 1)
        self._history = deque([one for one in self._history if at is not None and one.step <= at], maxlen=_KEPT)
        self._present = frozenset()
        if at is None:
            self._best_loss, self._best_eval = math.inf, (0, math.inf)

    def _take_step(self, event: Event) -> None:
        self._training, self._steps = True, self._steps + 1
        self._step = int(number_in(event, "step") or self._step)
        loss, grad, speed = (number_in(event, key) for key in ("loss", "grad_norm", "tokens_per_second"))
        if loss is not None:
            self._first_loss = loss if math.isnan(self._first_loss) else self._first_loss
            self._loss = loss if math.isnan(self._loss) else self._loss + _SMOOTHING * (loss - self._loss)
            if self._steps >= SETTLED_STEPS and self._loss < self._best_loss:
                self._best_loss, self._best_step = self._loss, self._step
        if grad is not None:
            self._take_gradient(grad)
        if speed is not None:
            self._speeds.append(speed)
        self._step_s = number_in(event, "step_s") or self._step_s

    def _take_gradient(self, grad: float) -> None:
        usual = _median(self._grads)
        if self._steps <= SETTLED_STEPS:
            self._first_grad = max(self._first_grad, grad)
        if len(self._grads) >= SETTLED_STEPS and usual > 0 and grad > max(SPIKE * usual, self._first_grad):
            self._spike = (self._step, grad, usual)
        self._grads.append(grad)

    def _take_eval(self, event: Event) -> None:
        loss, step = number_in(event, "loss"), number_in(event, "step")
        if loss is None or step is None:
            return
        self._evals.append((int(step), loss))
        if loss < self._best_eval[1]:
            self._best_eval = (int(step), loss)

    def _take_memory(self, event: Event) -> None:
        slowed = event.get("slowed_by")
        words = frozenset(str(word)[:40] for word in slowed) if isinstance(slowed, list) else frozenset()
        self._slowed.append(words - _EXPECTED_SLOWDOWN)
        free = number_in(event, "disk_free_bytes")
        if free is not None:
            self._disk.append((self._last_time, free))

    # What there is to say

    @property
    def history(self) -> tuple[Concern, ...]:
        """What went wrong at a step, of a run that is over too; `step` is where it was noticed."""
        return tuple(self._history)

    def _remember(self, step: int) -> None:
        found = [one for one in (self._divergence(), self._overfitting(), self._gradient_spike()) if one is not None]
        # Only a spike has a step of its own; other concerns last, and where they began may move.
        present = {(one.code, one.step if one.code == "gradient_spike" else 0): one for one in found}
        for key, one in present.items():
            if key not in self._present:
                self._history.append(replace(one, step=key[1] or step))
        self._present = frozenset(present)

    def concerns(self, now_s: float, *, live: bool) -> tuple[Concern, ...]:
        """What goes wrong at `now_s` (seconds since the epoch), the worst first; nothing of a run that is over."""
        if not live:
            return ()
        found = (
            self._silence(now_s),
            self._divergence(),
            self._full_disk(),
            self._overfitting(),
            self._slowdown(),
            self._slowness(),
            self._gradient_spike(),
        )
        return tuple(one for one in found if one is not None)

    def _divergence(self) -> Concern | None:
        best = self._best_loss
        if self._steps < SETTLED_STEPS or not 0 < best < math.inf or not self._loss > DIVERGED * best:
            return None
        if self._loss - best < NOTABLE_SHARE * self._first_loss:
            return None
        times = self._loss / best
        text = f"the loss is {self._loss:.3g}, {times:.1f} times its best ({best:.3g} at step {self._best_step:,})"
        return Concern("loss_rises", text, "stop it, and start again with a lower train.learning_rate", self._best_step)

    def _overfitting(self) -> Concern | None:
        evals = list(self._evals)
        if len(evals) <= RISES or any(later[1] <= before[1] for before, later in pairwise(evals)):
            return None
        at, best = self._best_eval
        text = f"the held-out loss rose {RISES} times in a row, to {evals[-1][1]:.4f}; best {best:.4f} at step {at:,}"
        hint = "stop it: more steps learn the rows by heart; train.early_stopping_patience stops by itself"
        return Concern("evaluation_rises", text, hint, evals[0][0])

    def _gradient_spike(self) -> Concern | None:
        if self._spike is None or self._step - self._spike[0] > _SPIKE_SHOWN_STEPS:
            return None
        step, grad, usual = self._spike
        text = f"the gradient was {grad:.3g} at step {step:,}, {grad / usual:.0f} times the usual"
        return Concern("gradient_spike", text, "look at the rows of that step if it comes again", step)

    def _slowness(self) -> Concern | None:
        planned, speed = self.planned_tokens_per_second, _median(self._speeds)
        if not planned or self._steps < SETTLED_STEPS or not 0 < speed < SLOW_SHARE * planned:
            return None
        text = f"{speed:,.0f} tokens/s, {1 - speed / planned:.0%} below the plan ({planned:,.0f})"
        return Concern("slow", text, "see who else uses the device", self._step)

    def _slowdown(self) -> Concern | None:
        if len(self._slowed) < _SLOWED_LOOKS:
            return None
        always = frozenset.intersection(*self._slowed)
        if not always:
            return None
        text = f"the card is slowed down by {', '.join(sorted(always))}"
        return Concern("card_slowed", text, "see to its cooling and its power supply", self._step)

    def _full_disk(self) -> Concern | None:
        if not self._disk:
            return None
        (began, at_first), (ended, free) = self._disk[0], self._disk[-1]
        if self._checkpoint_bytes and free < 2 * self._checkpoint_bytes:
            size = format_bytes(int(self._checkpoint_bytes))
            text = f"the disk has {format_bytes(int(free))} left, a checkpoint takes {size}"
            return Concern("disk_full", text, "free space now: a checkpoint that cannot be saved ends the run")
        rate = (at_first - free) / (ended - began) if ended - began >= _DISK_SPAN_S else 0.0
        if rate <= 0 or free / rate > _DISK_LEFT_S:
            return None
        text = f"the disk is full in {format_duration(free / rate)} if it goes on filling like this"
        return Concern("disk_full", text, "free space, or stop what writes there")

    def _silence(self, now_s: float) -> Concern | None:
        quiet = now_s - self._last_time if self._last_time else 0.0
        if not self._training or quiet < max(_SILENT_S, _SILENT_STEPS * self._step_s):
            return None
        text = f"no event for {format_duration(quiet)}: the worker may hang"
        return Concern(
            "silent", text, "look into worker.log; 'engine runs stop --now' ends it, then resume", self._step
        )


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
