"""What a training step tells: `train_step` events, reporters, and the end of a run that diverged.

`EngineTrainer` builds on this class. Between log lines nothing here waits for the device. Not here: how figures come
from the device (`lines.py`), the counting of steps that were skipped (`stepguard.py`).
"""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.measure.meter import times_due
from engine.train.evaluating import EvaluatingTrainer
from engine.train.lines import Lines
from engine.train.stepguard import MAX_BAD_STEPS, BadSteps, StepGuard

MAX_SKIPPED_STEPS = 20
"""fp16 steps in a row that the scaler may skip: it halves its scale each time, so these are enough."""


class TellingTrainer(EvaluatingTrainer):
    """Tells every log line once its figures are there; judges steps whose loss or gradient was not finite."""

    lines: Lines
    guard: StepGuard | None
    skipped_steps: int
    _globalstep_last_logged: int

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; the last line is told however the loop ends."""
        try:
            result = super().train(*args, **kwargs)
        except BaseException:
            with contextlib.suppress(Exception):  # the error that ends the run says more than its last figures
                self.lines.flush()
            raise
        self.lines.flush()
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's own totals are not told: the summary has them."""

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: Any, *args: Any, learning_rate: float | None = None, **kwargs: Any
    ) -> None:
        step = self.state.global_step
        if self.control.should_log and step > self._globalstep_last_logged:
            self._put_line(tr_loss, grad_norm, learning_rate)
            self._globalstep_last_logged = step
        self.control.should_log = False
        if self.control.should_evaluate or self.control.should_save or self.control.should_training_stop:
            self.lines.flush()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, learning_rate=learning_rate, **kwargs)
        self.meter.restart()

    def _put_line(self, tr_loss: torch.Tensor, grad_norm: Any, learning_rate: float | None) -> None:
        step, last = self.state.global_step, self.state.max_steps
        every = {"evaluate": self.schedule.eval_steps, "checkpoint": self.schedule.save_steps}
        due = {kind: times_due(steps, step, last) for kind, steps in every.items()}
        known = {
            "step": step,
            "steps_total": last,
            "epoch": self.state.epoch,
            "steps": step - self._globalstep_last_logged,
            "learning_rate": self._get_learning_rate() if learning_rate is None else learning_rate,
            "measured": self.meter.take(last - step, due),
        }
        norm = torch.as_tensor(grad_norm, device=tr_loss.device)
        parts = [torch.stack([tr_loss.double(), norm.double()]), self._guarding().figures().double()]
        scores = self.objective.figures(training=True)
        self.lines.put(known, torch.cat(parts if scores is None else [*parts, scores]))
        tr_loss.zero_()

    def _guarding(self) -> StepGuard:
        if self.guard is None:
            inner: Any = getattr(self.optimizer, "optimizer", self.optimizer)
            self.guard = StepGuard(inner, self.args.device, scaled=bool(self.args.fp16))
        return self.guard

    def write_line(self, known: dict[str, Any], figures: list[float]) -> None:
        """A `train_step` event; stops the run after steps in a row whose loss or gradient was not finite."""
        loss, norm, bad, scores = figures[0], figures[1], BadSteps.of(figures[2:5]), figures[5:]
        step, measured = known["step"], known["measured"]
        fields = {
            # The sum counts the steps without a finite loss as 0.
            "loss": math.nan if bad.losses else loss / known["steps"],
            "grad_norm": norm,
            "learning_rate": known["learning_rate"],
        }
        told = self.objective.told(scores) if scores else {}
        place = {key: known[key] for key in ("step", "steps_total", "epoch")}
        self.job.events.write("train_step", **place, **fields, **measured, **told)
        speed = {"epoch": known["epoch"], "tokens_per_second": measured["tokens_per_second"]}
        self.report({**fields, **speed, **told}, step)
        if self.args.fp16:
            self._judge_scaled(step, [key for key in ("loss", "grad_norm") if not math.isfinite(fields[key])])
        else:
            self._judge(step, bad)

    def report(self, logs: dict[str, Any], step: int | None = None) -> None:
        """Pass numbers on to the reporters that the profile asks for; of an earlier `step` where one is given."""
        if not self.settings.train.report_to:
            return
        state = self.state
        if step is not None:
            state = copy.copy(state)
            state.global_step = step
        known = {key: value for key, value in logs.items() if value is not None}
        self.callback_handler.on_log(self.args, state, self.control, known)

    def _judge(self, step: int, bad: BadSteps) -> None:
        """Say which steps were skipped; too many in a row end the run."""
        if bad.in_a_row >= MAX_BAD_STEPS:
            raise _diverged(f"loss or gradient was not a finite number in {bad.in_a_row} steps in a row, up to {step}")
        if bad.skipped:
            steps = "the step was" if bad.skipped == 1 else f"{bad.skipped} of the last steps were"
            self.job.warn(
                "step_skipped",
                f"step {step}: loss or gradient is not a finite number: {steps} skipped, the weights stay as they were",
            )

    def _judge_scaled(self, step: int, bad: list[str]) -> None:
        """fp16 overflows now and then: the scaler skips the step and halves its scale."""
        self.skipped_steps = self.skipped_steps + 1 if bad == ["grad_norm"] else 0
        if bad and (not self.skipped_steps or self.skipped_steps > MAX_SKIPPED_STEPS):
            raise _diverged(f"{bad[0]} is not a finite number at step {step}")


def _diverged(message: str) -> EngineError:
    return EngineError(
        message,
        code=ExitCode.DIVERGED,
        hint="the last checkpoint is whole; start again with train.learning_rate a third of it or a longer warm-up,"
        " and look for broken rows with 'engine data check'",
    )
