"""Held-out rows during training: their loss token by token, the best of it, and when there is no more gain.

A member of the trainer, which says when to evaluate and acts on what is found. Not here: scores of generated answers
(`engine.evaluate`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainerState, TrainingArguments

from engine.data.batch import PackedDataset
from engine.data.preference import NEEDED
from engine.modeling.forward import Batch
from engine.profile.schedule import Schedule
from engine.profile.schema import Profile
from engine.runs.job import Job
from engine.train.micro_batches import MicroBatches
from engine.train.noise import Scored, difference, told
from engine.train.objectives.objective import Likelihood

Prepare = Callable[[Batch], Batch]
"""Puts a batch on the run's device."""
PROGRESS_S = 1.0
"""How often an evaluation says how far it is."""
Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation: loss per trained token (or pair, or judged answer), and what the objective says beside it."""

    loss: float
    scores: dict[str, float]
    best: bool
    """Whether no earlier evaluation of the run was as good; that before the first step does not count."""


class Validation:
    """Evaluates with the training's own loss, weighed by tokens (or pairs), whatever the batch."""

    def __init__(
        self,
        dataset: PackedDataset,
        *,
        job: Job,
        settings: Profile,
        schedule: Schedule,
        arguments: TrainingArguments,
        objective: Likelihood,
        micro_batches: MicroBatches,
        collator: Any,
    ) -> None:
        self.dataset = dataset
        self._job, self._settings, self._eval_steps = job, settings, schedule.eval_steps
        self._objective, self._micro_batches = objective, micro_batches
        self._device = arguments.device
        self._best: Scored | None = None
        self._last: Scored | None = None
        self._loading = {
            "batch_size": arguments.per_device_train_batch_size,
            "collate_fn": collator,
            "pin_memory": arguments.dataloader_pin_memory,
        }

    def evaluate(self, model: Any, state: TrainerState, prepare: Prepare, autocast: Autocast) -> Evaluated | None:
        """Evaluate, write the `eval` event, note in `state` what is the best; None where a request to stop cut it."""
        step, began_s = state.global_step, time.monotonic()
        scored = self.scored(step, model, prepare, autocast)
        loss, tokens = scored.loss, sum(scored.items)
        if self._job.stop:
            self._job.warn("evaluation_cut", f"the evaluation at step {step} was ended by the request to stop")
            return None
        best = bool(step) and loss < (state.best_metric if state.best_metric is not None else math.inf)
        beside = _beside(self._best, scored)
        self._last = scored
        if best:
            self._best = scored
            state.best_metric, state.best_global_step = loss, step
        scores = self._objective.scores(training=False)
        if self._settings.train.objective not in NEEDED:
            scores["perplexity"] = math.exp(loss) if loss < 700 else math.inf
        seconds = round(time.monotonic() - began_s, 3)
        self._job.events.write(
            "eval", step=step, loss=loss, best=best, tokens=tokens, seconds=seconds, **scores, **beside
        )
        return Evaluated(loss, scores, best)

    def loss(self, model: Any, prepare: Prepare, autocast: Autocast) -> tuple[float, int]:
        """Loss per trained token (or pair, or judged answer) of all held-out sequences, and how many there are."""
        scored = self.scored(0, model, prepare, autocast)
        return scored.loss, sum(scored.items)

    @torch.no_grad()
    def scored(self, step: int, model: Any, prepare: Prepare, autocast: Autocast) -> Scored:
        """The loss of every batch of held-out sequences."""
        model.eval()
        losses: list[torch.Tensor] = []
        items: list[int] = []
        told_s = time.monotonic()
        for number, batch in enumerate(DataLoader(self.dataset, **self._loading)):
            if self._job.stop:
                break
            if number and time.monotonic() - told_s >= PROGRESS_S:
                told_s = time.monotonic()
                done = number * self._loading["batch_size"]
                self._job.progress("evaluate", done, len(self.dataset), "sequences")
            items.append(int(self._objective.items(batch)))
            total = torch.zeros((), dtype=torch.float64, device=self._device)
            with autocast():
                for one in self._micro_batches.of(prepare(batch)):
                    total += self._objective(model, one).double()
            losses.append(total)
        # One copy at the end: asking for each batch's loss would wait for the device each time.
        found = torch.stack(losses).tolist() if losses else []
        return Scored(step, tuple(found), tuple(items))

    def tell_noise(self) -> None:
        """Say so where the best evaluation is not surely better than the last."""
        change = None if self._best is None or self._last is None else difference(self._best, self._last)
        if change is None or self._best is None or self._last is None:
            return
        text = told(self._best, self._last, change)
        if text:
            self._job.warn("best_by_chance", text)

    def has_no_more_gain(self, state: TrainerState) -> bool:
        """Whether as many evaluations as `early_stopping_patience` have passed since the best one; says so."""
        patience, best = self._settings.train.early_stopping_patience, state.best_global_step
        if not patience or not self._eval_steps or best is None:
            return False
        if (state.global_step - best) // self._eval_steps < patience:
            return False
        self._job.warn("early_stopping", f"{patience} evaluations without gain since step {best}: stopping")
        return True


def _beside(best: Scored | None, scored: Scored) -> dict[str, Any]:
    """The change against the best evaluation so far, with its interval, for the event."""
    change = difference(best, scored)
    if change is None or best is None or not scored.step:
        return {}
    return {"against": best.step, "change": change.delta, "low": change.low, "high": change.high}
