"""transformers' Trainer, made predictable: chunked loss, token-weighted evaluation, guarded steps.

What stays Trainer's: the loop, accumulation, clipping, schedules, mixed precision, exact data order on
resume. What is ours: the loss, the optimizer and the events; evaluation is
`evaluating.py`, saving `checkpointing.py`, what comes after a step `reins.py`. Built and run by `train.run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from engine.errors import EngineError, ExitCode, is_out_of_memory
from engine.modeling import forward
from engine.profile.schema import Profile
from engine.train.audit import audit
from engine.train.evaluating import EvaluatingTrainer
from engine.train.meter import Meter, times_due
from engine.train.objectives.objective import objective_of
from engine.train.optimizer import build_optimizer
from engine.train.peaks import PhasePeaks
from engine.train.pieces import Pieces, release
from engine.train.reins import Reins
from engine.train.reporters import reporters
from engine.train.schedule import Schedule
from engine.train.stepguard import MAX_BAD_STEPS, BadSteps, StepGuard
from engine.worker_job import Job

MAX_SKIPPED_STEPS = 20
"""fp16 steps in a row that the scaler may skip: it halves its scale each time, so these are enough."""


class EngineTrainer(EvaluatingTrainer):
    """Trains one run; `job` is told everything."""

    def __init__(
        self,
        *,
        job: Job,
        settings: Profile,
        schedule: Schedule,
        arguments: TrainingArguments,
        model: Any,
        train_dataset: Any,
        eval_dataset: Any,
        collator: Any,
        data_digest: str = "",
    ) -> None:
        super().__init__(
            model=model, args=arguments, train_dataset=train_dataset, data_collator=collator, callbacks=[Reins(self)]
        )
        self.remove_callback(PrinterCallback)
        for reporter in reporters(settings.train.report_to, job.directory, job.warn):
            self.add_callback(reporter)
        # The loss is divided by the trained tokens of the whole accumulated batch, here and not by the model.
        self.model_accepts_loss_kwargs = True
        self.job, self.settings, self.schedule = job, settings, schedule
        self.validation, self.collator = eval_dataset, collator
        self.meter = Meter()
        # Leaves a card's counters alone; `train.run` puts one here that does not.
        self.peaks = PhasePeaks()
        self.objective = objective_of(settings)
        self.save_reason = "schedule"
        self.data_digest = data_digest
        self.skipped_steps = 0
        self.guard: StepGuard | None = None
        self.pieces = Pieces()
        self.on_smaller: Callable[[BaseException, int], None] = lambda error, rows: None
        """Told when memory ran out and smaller pieces are tried: the error, and the rows at once from now on."""
        self._audited = False
        self._step_batches: list[tuple[forward.Batch, Any]] = []

    # loss -------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed loss of a packed micro-batch over the trained tokens of the whole accumulated batch."""
        self.peaks.enter("forward", rows=len(inputs["input_ids"]))
        with self._autocast():
            total = self.objective(self.model, inputs)
        self.peaks.enter("backward")
        return total / num_items_in_batch

    def _get_num_items_in_batch(self, batch_samples: list[forward.Batch], device: Any) -> Any:
        """What the summed loss of an optimizer step is divided by."""
        return torch.tensor(sum(self.objective.items(batch) for batch in batch_samples), device=device)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of a micro-batch; out of memory, the step begins again in smaller pieces."""
        batch = self._prepare_inputs(inputs)
        self.meter.add_tokens(batch["real_tokens"])
        self._step_batches.append((batch, num_items_in_batch))
        todo = self._step_batches[-1:]
        while True:
            try:
                losses = [self._in_pieces(model, one, items) for one, items in todo]
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.pieces.rows_of(batch) == 1:
                    raise
                self.pieces.halve()
                self.on_smaller(error, self.pieces.rows_of(batch))
                release(error)
            # A pass that broke off has left part of its gradients: only the whole step can be repeated.
            model.zero_grad(set_to_none=True)
            todo = self._step_batches
        return torch.nan_to_num(losses[-1], nan=0.0, posinf=0.0, neginf=0.0)

    def _in_pieces(self, model: Any, batch: forward.Batch, items: Any) -> torch.Tensor:
        loss = sum(super(EngineTrainer, self).training_step(model, one, items) for one in self.pieces.of(batch))
        self._guarding().saw_loss(torch.as_tensor(loss))
        return torch.as_tensor(loss)

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        self._guarding().saw_norm(norm)
        return norm

    def _guarding(self) -> StepGuard:
        if self.guard is None:
            inner = getattr(self.optimizer, "optimizer", self.optimizer)
            self.guard = StepGuard(inner, self.args.device, scaled=bool(self.args.fp16))
        return self.guard

    def before_step(self) -> None:
        """Gradients are whole: the optimizer begins, unless they are not finite."""
        self._step_batches = []
        if not self._audited:
            self._audited = True
            self._audit()
        self._guarding().before_step()

    def _audit(self) -> None:
        found = audit(self.model, getattr(self.optimizer, "optimizer", self.optimizer))
        counts = {name: len(getattr(found, name)) for name in ("trained", "untouched", "zero")}
        self.job.events.write("audit", step=self.state.global_step + 1, **counts)
        for message in found.warnings():
            self.job.warn("audit", message)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: walking all modules each micro-batch would cost more than it tells."""
        return 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with fp32 masters, or what `train.optim` says."""
        self.optimizer = build_optimizer(self.model, self.settings, self.job.warn)
        return self.optimizer

    # telling ----------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A `train_step` event; stops the run after steps in a row whose loss or gradient was not finite."""
        if "loss" not in logs:
            return
        step, bad = self.state.global_step, self._guarding().take()
        if bad.losses:
            # The mean over this log line's steps would count these as 0.
            logs = {**logs, "loss": math.nan}
        fields = {key: logs.get(key) for key in ("loss", "grad_norm", "learning_rate")}
        every = {"evaluate": self.schedule.eval_steps, "checkpoint": self.schedule.save_steps}
        due = {kind: times_due(steps, step, self.state.max_steps) for kind, steps in every.items()}
        measured = self.meter.take(self.state.max_steps - step, due)
        scores = self.objective.scores(training=True)
        self.job.events.write(
            "train_step",
            step=step,
            steps_total=self.state.max_steps,
            epoch=self.state.epoch,
            **fields,
            **measured,
            **scores,
        )
        self.report({**fields, "epoch": self.state.epoch, "tokens_per_second": measured["tokens_per_second"], **scores})
        if self.args.fp16:
            self._judge_scaled(step, [key for key in ("loss", "grad_norm") if not math.isfinite(fields[key] or 0.0)])
        else:
            self._judge(step, bad)

    def report(self, logs: dict[str, Any]) -> None:
        """Pass numbers on to the reporters that the profile asks for."""
        if self.settings.train.report_to:
            known = {key: value for key, value in logs.items() if value is not None}
            self.callback_handler.on_log(self.args, self.state, self.control, known)

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

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.meter.restart()


def _diverged(message: str) -> EngineError:
    return EngineError(
        message,
        code=ExitCode.DIVERGED,
        hint="the last checkpoint is whole; start again with train.learning_rate a third of it or a longer warm-up,"
        " and look for broken rows with 'engine data check'",
    )
