"""The log lines of a run: `train_step` events, numbers for reporters, and the end of a run that diverged.

A member of the trainer. Between log lines nothing here waits for the device. Not here: how figures come from the device
(`lines.py`), the counting of steps that were skipped (`stepguard.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerState, TrainingArguments

from engine.errors import EngineError, ExitCode
from engine.measure.meter import Meter, times_due
from engine.profile.schedule import Schedule
from engine.runs.job import Job
from engine.train.lines import Lines
from engine.train.objectives.objective import Likelihood
from engine.train.stepguard import MAX_BAD_STEPS, BadSteps

MAX_SKIPPED_STEPS = 20
"""fp16 steps in a row that the scaler may skip: it halves its scale each time, so these are enough."""


class StepLog:
    """Writes every log line once its figures are there; judges steps whose loss or gradient was not finite."""

    def __init__(
        self,
        *,
        job: Job,
        schedule: Schedule,
        objective: Likelihood,
        meter: Meter,
        arguments: TrainingArguments,
        report: Callable[[dict[str, Any], int], None],
    ) -> None:
        """`report` passes the numbers of a step on to whoever else watches."""
        self._job, self._schedule, self._objective, self._meter = job, schedule, objective, meter
        self._report, self._arguments = report, arguments
        self._skipped_in_a_row = 0
        self.lines = Lines(self.write, late=arguments.device.type == "cuda")

    def put(self, state: TrainerState, steps: int, learning_rate: float, figures: dict[str, torch.Tensor]) -> None:
        """A line for the last `steps` steps; `figures`, still on the device: `loss`, `norm`, `guard`."""
        step, last = state.global_step, state.max_steps
        evaluations = self._schedule.eval_steps
        every = {"evaluate": evaluations, "answers": evaluations, "checkpoint": self._schedule.save_steps}
        due = {kind: times_due(count, step, last) for kind, count in every.items()}
        known = {
            "step": step,
            "steps_total": last,
            "epoch": state.epoch,
            "steps": steps,
            "learning_rate": learning_rate,
            "measured": self._meter.take(last - step, due),
        }
        parts = [torch.stack([figures["loss"].double(), figures["norm"].double()]), figures["guard"].double()]
        scores = self._objective.figures(training=True)
        self.lines.put(known, torch.cat(parts if scores is None else [*parts, scores]))

    def flush(self) -> None:
        """Write what is still to come."""
        self.lines.flush()

    def write(self, known: dict[str, Any], figures: list[float]) -> None:
        """A `train_step` event; stops the run after steps in a row whose loss or gradient was not finite."""
        loss, norm, bad, scores = figures[0], figures[1], BadSteps.of(figures[2:5]), figures[5:]
        step, measured = known["step"], known["measured"]
        fields = {
            # The sum counts the steps without a finite loss as 0.
            "loss": math.nan if bad.losses else loss / known["steps"],
            "grad_norm": norm,
            "learning_rate": known["learning_rate"],
        }
        beside = self._objective.told(scores) if scores else {}
        place = {key: known[key] for key in ("step", "steps_total", "epoch")}
        self._job.events.write("train_step", **place, **fields, **measured, **beside)
        speed = {"epoch": known["epoch"], "tokens_per_second": measured["tokens_per_second"]}
        self._report({**fields, **speed, **beside}, step)
        if self._arguments.fp16:
            self._judge_scaled(step, [key for key in ("loss", "grad_norm") if not math.isfinite(fields[key])])
        else:
            self._judge(step, bad)

    def _judge(self, step: int, bad: BadSteps) -> None:
        """Say which steps were skipped; too many in a row end the run."""
        if bad.in_a_row >= MAX_BAD_STEPS:
            raise _diverged(f"loss or gradient was not a finite number in {bad.in_a_row} steps in a row, up to {step}")
        if bad.skipped:
            steps = "the step was" if bad.skipped == 1 else f"{bad.skipped} of the last steps were"
            self._job.warn(
                "step_skipped",
                f"step {step}: loss or gradient is not a finite number: {steps} skipped, the weights stay as they were",
            )

    def _judge_scaled(self, step: int, bad: list[str]) -> None:
        """fp16 overflows now and then: the scaler skips the step and halves its scale."""
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if bad == ["grad_norm"] else 0
        if bad and (not self._skipped_in_a_row or self._skipped_in_a_row > MAX_SKIPPED_STEPS):
            raise _diverged(f"{bad[0]} is not a finite number at step {step}")


def _diverged(message: str) -> EngineError:
    return EngineError(
        message,
        code=ExitCode.DIVERGED,
        hint="the last checkpoint is whole; start again with train.learning_rate a third of it or a longer warm-up,"
        " and look for broken rows with 'engine data check'",
    )
