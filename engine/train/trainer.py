"""transformers' Trainer, made predictable: chunked loss, token-weighted evaluation, guarded steps.

What stays Trainer's: the loop, accumulation, schedules, mixed precision, exact data order on resume. What is ours: a
micro-batch's forward and backward pass, the loss, clipping, the optimizer and the events; log lines are `telling.py`,
evaluation `evaluating.py`, saving `checkpointing.py`, what comes after a step `reins.py`. On a GPU a step waits for the
device for a log line only, and for that one a step later. Built and run by `train.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from engine.errors import is_out_of_memory
from engine.measure.meter import Meter
from engine.measure.peaks import PhasePeaks
from engine.modeling import forward
from engine.profile.schedule import Schedule
from engine.profile.schema import Profile
from engine.runs.job import Job
from engine.train.audit import audit
from engine.train.lines import Lines
from engine.train.objectives.objective import objective_of
from engine.train.optimizer import build_optimizer
from engine.train.pieces import Pieces, release
from engine.train.reins import Reins
from engine.train.reporters import reporters
from engine.train.stepguard import StepGuard
from engine.train.telling import TellingTrainer


class EngineTrainer(TellingTrainer):
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
        self.lines = Lines(self.write_line, late=arguments.device.type == "cuda")
        self.pieces = Pieces()
        self.on_smaller: Callable[[BaseException, int], None] = lambda error, rows: None
        """Told when memory ran out and smaller pieces are tried: the error, and the rows at once from now on."""
        self._learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Trainer calls it after each step, and the module's own walks thousands of modules for it.
        model.zero_grad = partial(_drop_gradients, self._learned)
        self.ways: tuple[str, ...] = ()
        """The faster paths that are on (`kernel_choice.py`)."""
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
        """What the summed loss of an optimizer step is divided by: a number of the host's."""
        return sum(self.objective.items(batch) for batch in batch_samples)

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
        if not model.training:  # walking thousands of modules each time would cost more than it tells
            model.train()
        losses = [self._forward_and_backward(model, one, items) for one in self.pieces.of(batch)]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        self._guarding().saw_loss(loss)
        return loss

    def _forward_and_backward(self, model: Any, batch: forward.Batch, items: Any) -> torch.Tensor:
        loss = self.compute_loss(model, batch, num_items_in_batch=items)
        self.accelerator.backward(loss)
        detached: torch.Tensor = loss.detach()
        return detached

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
        norm: torch.Tensor = grad_norm
        return norm

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


def _drop_gradients(learned: list[torch.Tensor], set_to_none: bool = True) -> None:
    for parameter in learned:
        parameter.grad = None
