"""transformers' Trainer with checkpoints of its own kind: whole, checked, without pickles.

`EngineTrainer` builds on this class. Not here: what a checkpoint's files hold (`state.py`), and when one is due
(`reins.py`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerState

from engine.errors import EngineError, ExitCode
from engine.files import read_json, write_json_atomic
from engine.measure.meter import Meter
from engine.profile.schema import Profile
from engine.runs.checkpoint import flaw, rotate, write_checkpoint
from engine.runs.job import Job
from engine.train import state as saved
from engine.train.pieces import Pieces

TRAINER_STATE, PROGRESS = "trainer_state.json", "progress.json"


class CheckpointingTrainer(Trainer):
    """Saves and restores everything that the next step depends on."""

    job: Job
    settings: Profile
    meter: Meter
    pieces: Pieces
    data_digest: str
    save_reason: str

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not saved.all_finite(self.model):
            raise EngineError(
                f"a trained weight is not finite at step {self.state.global_step}: nothing was saved",
                code=ExitCode.DIVERGED,
                hint="lower train.learning_rate, then resume from the last checkpoint",
            )
        began = time.monotonic()
        folder, step = self.job.directory / "checkpoints", self.state.global_step
        written = write_checkpoint(folder, step, self._fill_checkpoint)
        self.meter.add_pause("checkpoint", time.monotonic() - began)
        self.job.events.write(
            "checkpoint",
            step=step,
            path=f"checkpoints/{written.path.name}",
            bytes=written.bytes,
            seconds=round(time.monotonic() - began, 3),
            reason=self.save_reason,
        )
        self.save_reason = "schedule"
        best = self.state.best_global_step if self.settings.train.load_best_model_at_end else None
        rotate(folder, self.settings.train.save_total_limit, best)

    def _fill_checkpoint(self, folder: Path) -> None:
        saved.save_trainable(self.model, folder)
        saved.save_optimizer(self.optimizer, folder)
        saved.save_random(folder)
        write_json_atomic(folder / saved.SCHEDULER_JSON, self.lr_scheduler.state_dict())
        if self.accelerator.scaler is not None:
            write_json_atomic(folder / saved.SCALER_JSON, self.accelerator.scaler.state_dict())
        progress = {
            "tokens_total": self.meter.tokens_total,
            "data_digest": self.data_digest,
            "pieces": self.pieces.count,
        }
        write_json_atomic(folder / PROGRESS, progress)
        self.state.save_to_json(str(folder / TRAINER_STATE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if read_json(folder / PROGRESS)["data_digest"] != self.data_digest:
            raise EngineError(
                "the training data is not what it was when the run began",
                code=ExitCode.DATA,
                where="data.datasets",
                hint="put the old files back, or start a new run",
            )
        saved.load_trainable(self.model, folder)

    def restore(self, folder: Path) -> None:
        """Stand where a checkpoint stands without training on: for a run that has all its steps."""
        self._load_from_checkpoint(str(folder))
        self.state = TrainerState.load_from_json(str(folder / TRAINER_STATE))
        self._restore_progress(folder)

    def _restore_progress(self, folder: Path) -> None:
        progress = read_json(folder / PROGRESS)
        self.meter.tokens_total = int(progress["tokens_total"])
        self.pieces.count = int(progress.get("pieces", 1))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        saved.load_optimizer(self.optimizer, folder)
        self.lr_scheduler.load_state_dict(read_json(folder / saved.SCHEDULER_JSON))
        self._restore_progress(folder)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(read_json(Path(checkpoint) / saved.SCALER_JSON))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            saved.load_random(Path(checkpoint))

    def load_best(self) -> int:
        """Put the best evaluation's weights in place when that is asked; returns the step they are from."""
        best, step = self.state.best_global_step, self.state.global_step
        if not self.settings.train.load_best_model_at_end or best is None or best == step:
            return step
        folder = self.job.directory / "checkpoints" / f"step-{best}"
        wrong = flaw(folder)
        if wrong:
            self.job.warn("best_missing", f"checkpoint step {best}, the best: {wrong}; the last weights are kept")
            return step
        saved.load_trainable(self.model, folder)
        return best
