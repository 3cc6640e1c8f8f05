"""Held-out rows during training: their loss token by token, the best of it, and when there is no more gain.

`EngineTrainer` builds on this class. Not here: scores of generated answers (`engine.evaluate`).
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch.utils.data import DataLoader

from engine.data.preference import NEEDED
from engine.measure.peaks import PhasePeaks
from engine.profile.schedule import Schedule
from engine.train.checkpointing import CheckpointingTrainer
from engine.train.objectives.objective import Likelihood


class EvaluatingTrainer(CheckpointingTrainer):
    """Evaluates as it trains: the same loss, weighed by tokens (or pairs), whatever the batch."""

    schedule: Schedule
    objective: Likelihood
    peaks: PhasePeaks
    validation: Any
    collator: Any

    def report(self, logs: dict[str, Any], step: int | None = None) -> None:
        """Numbers for whoever else watches; `TellingTrainer` passes them on."""

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A batch on the run's device. Nothing waits for the copies: they stand before the work in the stream."""
        device = self.args.device
        return {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cuda", dtype=torch.float16, enabled=bool(self.args.fp16))

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        self.control.should_evaluate = False
        if self.validation is None:
            self.job.warn("no_validation", "there are no held-out rows to evaluate on")
            return {}
        step, began = self.state.global_step, time.monotonic()
        self.peaks.enter("evaluate")
        loss, tokens = self.validation_loss()
        self.peaks.enter("between")
        if self.job.stop:
            self.job.warn("evaluation_cut", f"the evaluation at step {step} was ended by the request to stop")
            return {}
        self.meter.add_pause("evaluate", time.monotonic() - began)
        best = bool(step) and loss < (self.state.best_metric if self.state.best_metric is not None else math.inf)
        if best:
            self.state.best_metric, self.state.best_global_step = loss, step
        scores = self.objective.scores(training=False)
        if self.settings.train.objective not in NEEDED:
            scores["perplexity"] = math.exp(loss) if loss < 700 else math.inf
        self.job.events.write("eval", step=step, loss=loss, best=best, tokens=tokens, **scores)
        self.report({f"eval_{name}": value for name, value in {"loss": loss, **scores}.items()})
        if best and self.settings.train.load_best_model_at_end:
            self.control.should_save, self.save_reason = True, "best evaluation"
        self._stop_early(step)
        return {"eval_loss": loss}

    def _stop_early(self, step: int) -> None:
        patience, best = self.settings.train.early_stopping_patience, self.state.best_global_step
        if not patience or not self.schedule.eval_steps or best is None:
            return
        if (step - best) // self.schedule.eval_steps >= patience:
            self.job.warn("early_stopping", f"{patience} evaluations without gain since step {best}: stopping")
            self.control.should_training_stop = True

    @torch.no_grad()
    def validation_loss(self) -> tuple[float, int]:
        """Loss per trained token (or pair, or judged answer) of all held-out sequences, and how many there are."""
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        tokens = 0
        rows, pinned = self.args.per_device_train_batch_size, self.args.dataloader_pin_memory
        for batch in DataLoader(self.validation, batch_size=rows, collate_fn=self.collator, pin_memory=pinned):
            if self.job.stop:
                break
            tokens += self.objective.items(batch)
            with self._autocast():
                for one in self.pieces.of(self._prepare_inputs(batch)):
                    total += self.objective(self.model, one).double()
        return float(total) / max(tokens, 1), tokens
