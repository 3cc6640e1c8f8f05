"""Checkpoints of a run: whole, checked, without pickles; and the way back from them.

A member of the trainer, whose hooks call it. Not here: what a checkpoint's files hold (`state.py`), the directory's
wholeness (`engine.runs.checkpoint`), and when one is due (`trainer.py`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerState

from engine.errors import EngineError, ExitCode
from engine.files import read_json, write_json_atomic
from engine.measure.meter import Meter
from engine.profile.schema import Profile
from engine.runs.checkpoint import flaw, rotate, write_checkpoint
from engine.runs.job import Job
from engine.train import state as saved
from engine.train.micro_batches import MicroBatches

TRAINER_STATE, PROGRESS = "trainer_state.json", "progress.json"
SCHEDULED = "schedule"
"""Why a checkpoint is written when nobody asked for it."""


class Resumable(Protocol):
    """What the next step depends on; transformers' Trainer has all of it."""

    model: Any
    optimizer: Any
    lr_scheduler: Any
    accelerator: Any
    state: TrainerState


class Checkpointer:
    """Saves and restores everything that the next step of one run depends on."""

    def __init__(
        self, *, job: Job, settings: Profile, meter: Meter, micro_batches: MicroBatches, data_digest: str
    ) -> None:
        self._job, self._train = job, settings.train
        self._folder = job.directory / "checkpoints"
        self._meter, self._micro_batches = meter, micro_batches
        self.data_digest = data_digest
        self.reason = SCHEDULED
        """Why the next one is written."""

    def save(self, run: Resumable) -> None:
        """Write a checkpoint of the step that is done. Raises EngineError(DIVERGED) for a weight that is not finite."""
        step = run.state.global_step
        if not saved.all_finite(run.model):
            raise EngineError(
                f"a trained weight is not finite at step {step}: nothing was saved",
                code=ExitCode.DIVERGED,
                hint="lower train.learning_rate, then resume from the last checkpoint",
            )
        began = time.monotonic()
        written = write_checkpoint(self._folder, step, lambda folder: self._fill(run, folder))
        seconds = time.monotonic() - began
        self._meter.add_pause("checkpoint", seconds)
        self._job.events.write(
            "checkpoint",
            step=step,
            path=f"checkpoints/{written.path.name}",
            bytes=written.bytes,
            seconds=round(seconds, 3),
            reason=self.reason,
        )
        self.reason = SCHEDULED
        best = run.state.best_global_step if self._train.load_best_model_at_end else None
        rotate(self._folder, self._train.save_total_limit, best)

    def _fill(self, run: Resumable, folder: Path) -> None:
        saved.save_trainable(run.model, folder)
        saved.save_optimizer(run.optimizer, folder)
        saved.save_random(folder)
        write_json_atomic(folder / saved.SCHEDULER_JSON, run.lr_scheduler.state_dict())
        if run.accelerator.scaler is not None:
            write_json_atomic(folder / saved.SCALER_JSON, run.accelerator.scaler.state_dict())
        progress = {
            "tokens_total": self._meter.tokens_total,
            "data_digest": self.data_digest,
            "pieces": self._micro_batches.parts,
        }
        write_json_atomic(folder / PROGRESS, progress)
        run.state.save_to_json(str(folder / TRAINER_STATE))

    def load_weights(self, model: Any, folder: Path) -> None:
        """Put the weights of a checkpoint back. Raises EngineError(DATA) where the run's rows are other ones now."""
        if read_json(folder / PROGRESS)["data_digest"] != self.data_digest:
            raise EngineError(
                "the training data is not what it was when the run began",
                code=ExitCode.DATA,
                where="data.datasets",
                hint="put the old files back, or start a new run",
            )
        saved.load_trainable(model, folder)

    def load_optimizer(self, run: Resumable, folder: Path) -> None:
        """Put optimizer, schedule and progress back."""
        saved.load_optimizer(run.optimizer, folder)
        run.lr_scheduler.load_state_dict(read_json(folder / saved.SCHEDULER_JSON))
        self._load_progress(folder)

    def load_scaler(self, run: Resumable, folder: Path) -> None:
        """Put the gradient scale of fp16 training back."""
        if run.accelerator.scaler is not None and (folder / saved.SCALER_JSON).is_file():
            run.accelerator.scaler.load_state_dict(read_json(folder / saved.SCALER_JSON))

    def load_random(self, folder: Path) -> None:
        """Put the states of all random generators back."""
        saved.load_random(folder)

    def restore(self, run: Resumable, folder: Path) -> None:
        """Stand where a checkpoint stands without training on: for a run that has all its steps."""
        self.load_weights(run.model, folder)
        run.state = TrainerState.load_from_json(str(folder / TRAINER_STATE))
        self._load_progress(folder)

    def _load_progress(self, folder: Path) -> None:
        progress = read_json(folder / PROGRESS)
        self._meter.tokens_total = int(progress["tokens_total"])
        self._micro_batches.parts = int(progress.get("pieces", 1))

    def load_best(self, run: Resumable) -> int:
        """Put the best evaluation's weights in place when that is asked; returns the step they are from."""
        best, step = run.state.best_global_step, run.state.global_step
        if not self._train.load_best_model_at_end or best is None or best == step:
            return step
        folder = self._folder / f"step-{best}"
        wrong = flaw(folder)
        if wrong:
            self._job.warn("best_missing", f"checkpoint step {best}, the best: {wrong}; the last weights are kept")
            return step
        saved.load_trainable(run.model, folder)
        return best
