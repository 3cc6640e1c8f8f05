"""transformers' Trainer, made predictable: chunked loss, token-weighted evaluation, guarded steps.

What stays Trainer's: the loop, accumulation, schedules, mixed precision, exact data order on resume. What is ours: a
micro-batch's forward and backward pass, the loss, clipping, the optimizer, and what comes after a step. The parts with
a life of their own are members: `checkpointer.py`, `validation.py`, `prompts.py`, `step_log.py`, `stepguard.py`,
`micro_batches.py`. What an evaluation leads to is in `evaluating.py`.
On a GPU a step waits for the device for a log line only, and for that one a step later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from engine.data.alone import AloneDataset, ByLength
from engine.errors import is_out_of_memory
from engine.measure.meter import Meter
from engine.measure.peaks import PhasePeaks
from engine.modeling import forward
from engine.profile.schedule import Schedule
from engine.profile.schema import Profile
from engine.runs.control import take_requests
from engine.runs.job import Job
from engine.train.audit import write_audit
from engine.train.beginning import load_moments
from engine.train.checkpointer import Checkpointer
from engine.train.evaluating import evaluate
from engine.train.micro_batches import MicroBatches, release
from engine.train.objectives.objective import objective_of
from engine.train.optimizer import build_optimizer
from engine.train.prompts import Prompts
from engine.train.rates import rate_schedule
from engine.train.reporters import at_step, reporters
from engine.train.step_log import StepLog
from engine.train.stepguard import StepGuard
from engine.train.validation import Validation


class EngineTrainer(Trainer):
    """Trains one run; all that happens is written to `job`."""

    _globalstep_last_logged: int
    lr_scheduler: Any

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
            model=model,
            args=arguments,
            train_dataset=train_dataset,
            data_collator=collator,
            callbacks=[AfterStep(self), *reporters(settings.train.report_to, job.directory, job.warn)],
        )
        self.remove_callback(PrinterCallback)
        # The loss is divided by the trained tokens of the whole accumulated batch, here and not by the model.
        self.model_accepts_loss_kwargs = True
        self.job, self.settings, self.schedule, self.collator = job, settings, schedule, collator
        self.objective = objective_of(settings)
        self.meter = Meter()
        # Leaves a card's counters alone; `train.run` puts one here that does not.
        self.peaks = PhasePeaks()
        self.guard: StepGuard | None = None
        self.micro_batches = MicroBatches()
        self.checkpointer = Checkpointer(
            job=job, settings=settings, meter=self.meter, micro_batches=self.micro_batches, data_digest=data_digest
        )
        self.validation = None if eval_dataset is None else _validation(self, eval_dataset)
        self.moments: Path | None = None
        """Where the optimizer state is that a run begins with; None for moments of zero."""
        self.prompts: Prompts | None = None
        """Prompts that are answered at each evaluation."""
        self.step_log = StepLog(
            job=job,
            schedule=schedule,
            objective=self.objective,
            meter=self.meter,
            arguments=arguments,
            report=self.report,
        )
        self.on_smaller: Callable[[BaseException, int], None] = lambda error, rows: None
        """Called when memory ran out and smaller parts are tried: the error, and the rows at once from now on."""
        self._learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Trainer calls it after each step, and the module's own walks thousands of modules for it.
        model.zero_grad = partial(_drop_gradients, self._learned)
        self.as_predicted = True
        """Whether batches have the one shape that memory and speed were predicted for."""
        self.ways: tuple[str, ...] = ()
        """The faster paths that are on (`kernel_choice.py`)."""
        self._audited = False
        self._step_batches: list[tuple[forward.Batch, Any]] = []

    # a micro-batch ----------------------------------------------------------------------------------

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A batch on the run's device. Nothing waits for the copies: they stand before the work in the stream."""
        device = self.args.device
        return {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }

    def autocast(self) -> torch.autocast:
        """Automatic casting, which fp16 training needs; nothing otherwise."""
        return torch.autocast("cuda", dtype=torch.float16, enabled=bool(self.args.fp16))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed loss of a packed micro-batch over the trained tokens of the whole accumulated batch."""
        self.peaks.enter("forward", rows=len(inputs["input_ids"]))
        with self.autocast():
            total = self.objective(self.model, inputs)
        self.peaks.enter("backward")
        return total / num_items_in_batch

    def _get_num_items_in_batch(self, batch_samples: list[forward.Batch], device: Any) -> Any:
        """What the summed loss of an optimizer step is divided by: a number of the host's."""
        return sum(self.objective.items(batch) for batch in batch_samples)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of a micro-batch; out of memory, the step begins again in smaller parts."""
        batch = self._prepare_inputs(inputs)
        self.meter.add_tokens(batch["real_tokens"])
        self._step_batches.append((batch, num_items_in_batch))
        todo = self._step_batches[-1:]
        while True:
            try:
                losses = [self._in_parts(model, one, items) for one, items in todo]
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.micro_batches.rows_of(batch) == 1:
                    raise
                self.micro_batches.halve()
                self.on_smaller(error, self.micro_batches.rows_of(batch))
                release(error)
            # A pass that broke off has left part of its gradients: only the whole step can be repeated.
            model.zero_grad(set_to_none=True)
            todo = self._step_batches
        return torch.nan_to_num(losses[-1], nan=0.0, posinf=0.0, neginf=0.0)

    def _in_parts(self, model: Any, batch: forward.Batch, items: Any) -> torch.Tensor:
        if not model.training:  # walking thousands of modules each time would cost more than it tells
            model.train()
        losses = [self._forward_and_backward(model, one, items) for one in self.micro_batches.of(batch)]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        self._guarding().saw_loss(loss)
        return loss

    def _forward_and_backward(self, model: Any, batch: forward.Batch, items: Any) -> torch.Tensor:
        loss = self.compute_loss(model, batch, num_items_in_batch=items)
        self.accelerator.backward(loss)
        detached: torch.Tensor = loss.detach()
        return detached

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Rows of one length are drawn at random; documents that stand alone so that a batch has few lengths."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, AloneDataset):
            return ByLength(dataset.document_lengths, self.args.per_device_train_batch_size, self.args.seed)
        return super()._get_train_sampler(dataset)

    # the optimizer's step ---------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with fp32 masters, or what `train.optim` says."""
        self.optimizer = build_optimizer(self.model, self.settings, self.job.warn)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rate over the run: `rates.py`."""
        if self.lr_scheduler is None:
            self.lr_scheduler = rate_schedule(self.settings.train, self.schedule, optimizer or self.optimizer)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip the whole gradient to `max_grad_norm`; its norm stays on the device."""
        self.accelerator.unscale_gradients()
        return torch.nn.utils.clip_grad_norm_(self._learned, self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> torch.Tensor:
        if grad_norm is None:
            self.accelerator.unscale_gradients()
            gradients = [each.grad for each in self._learned if each.grad is not None]
            grad_norm = torch.nn.utils.get_total_norm(gradients)
        self._guarding().saw_norm(grad_norm)
        return torch.as_tensor(grad_norm)

    def before_step(self) -> None:
        """Gradients are whole: the optimizer begins, unless they are not finite."""
        self._step_batches = []
        if not self._audited:
            self._audited = True
            write_audit(self.job, self.model, self._bare_optimizer, self.state.global_step + 1)
        self._guarding().before_step()

    @property
    def _bare_optimizer(self) -> Any:
        # Without accelerate's wrapper.
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _guarding(self) -> StepGuard:
        if self.guard is None:
            self.guard = StepGuard(self._bare_optimizer, self.args.device, scaled=bool(self.args.fp16))
        return self.guard

    # log lines and evaluation -----------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; the last line is written however the loop ends."""
        try:
            result = super().train(*args, **kwargs)
        except BaseException:
            with contextlib.suppress(Exception):  # the error that ends the run says more than its last figures
                self.step_log.flush()
            raise
        self.step_log.flush()
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's own totals are left out: the summary has them."""

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: walking all modules each micro-batch would cost more than it tells."""
        return 0

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: Any, *args: Any, learning_rate: float | None = None, **kwargs: Any
    ) -> None:
        step, logged = self.state.global_step, self._globalstep_last_logged
        if self.control.should_log and step > logged:
            norm = torch.as_tensor(grad_norm, device=tr_loss.device)
            rate = self._get_learning_rate() if learning_rate is None else learning_rate
            figures = {"loss": tr_loss, "norm": norm, "guard": self._guarding().figures()}
            self.step_log.put(self.state, step - logged, rate, figures)
            tr_loss.zero_()
            self._globalstep_last_logged = step
        self.control.should_log = False
        if self.control.should_evaluate or self.control.should_save or self.control.should_training_stop:
            self.step_log.flush()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, learning_rate=learning_rate, **kwargs)
        self.meter.restart()

    def report(self, logs: Mapping[str, Any], step: int | None = None) -> None:
        """Pass numbers on to the reporters that the profile asks for; of an earlier `step` where one is given."""
        if self.settings.train.report_to:
            known = {key: value for key, value in logs.items() if value is not None}
            self.callback_handler.on_log(self.args, at_step(self.state, step), self.control, known)

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        self.control.should_evaluate = False
        return evaluate(self)

    # checkpoints: Trainer's hooks -------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.checkpointer.save(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.checkpointer.load_weights(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.checkpointer.load_optimizer(self, Path(checkpoint))

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.checkpointer.load_scaler(self, Path(checkpoint))

    def begin(self) -> None:
        """Before the first step of all: moments of the run that this one goes on from."""
        if self.moments is not None:
            load_moments(self._bare_optimizer, self.moments, self.job.warn)
            self.checkpointer.load_scaler(self, self.moments)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.checkpointer.load_random(Path(checkpoint))


class AfterStep(TrainerCallback):
    """Decides after each step what comes next: schedule, control files and signals."""

    def __init__(self, trainer: EngineTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """A run that is not resumed begins."""
        if state.global_step == 0:
            self._trainer.begin()
        return control

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Gradients are whole: the optimizer begins."""
        self._trainer.peaks.enter("optimizer")
        self._trainer.before_step()
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Evaluate, save or stop when it is due or was asked for."""
        trainer, step = self._trainer, state.global_step
        trainer.meter.end_step()
        trainer.peaks.end_step()
        last = step >= state.max_steps
        every_eval, every_save = trainer.schedule.eval_steps, trainer.schedule.save_steps
        control.should_evaluate = bool(every_eval) and (last or step % every_eval == 0)
        control.should_save = last or step % every_save == 0
        self._obey(control)
        return control

    def _obey(self, control: TrainerControl) -> None:
        job, checkpointer = self._trainer.job, self._trainer.checkpointer
        for request in take_requests(job.directory):
            if request == "stop":
                job.stop.ask("asked to stop")
            control.should_evaluate |= request == "evaluate"
            control.should_save |= request in ("checkpoint", "stop")
            checkpointer.reason = "asked for" if request == "checkpoint" else checkpointer.reason
            job.events.write("control", request=request, outcome="accepted")
        if job.stop:
            control.should_save, control.should_training_stop, checkpointer.reason = True, True, "stopping"


def _validation(trainer: EngineTrainer, eval_dataset: Any) -> Validation:
    return Validation(
        eval_dataset,
        job=trainer.job,
        settings=trainer.settings,
        schedule=trainer.schedule,
        arguments=trainer.args,
        objective=trainer.objective,
        micro_batches=trainer.micro_batches,
        collator=trainer.collator,
    )


def _drop_gradients(learned: list[torch.Tensor], set_to_none: bool = True) -> None:
    for parameter in learned:
        parameter.grad = None
