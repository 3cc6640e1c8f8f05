"""What comes after each step: schedule, control files and signals. The trainer's callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.runs.control import take_requests

if TYPE_CHECKING:
    from engine.train.trainer import EngineTrainer


class Reins(TrainerCallback):
    """Decides after each step what comes next: schedule, control files and signals."""

    def __init__(self, trainer: EngineTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Gradients are whole: the optimizer begins."""
        self.trainer.peaks.enter("optimizer")
        self.trainer.before_step()
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Evaluate, save or stop when it is due or was asked for."""
        trainer, step = self.trainer, state.global_step
        trainer.meter.end_step()
        trainer.peaks.end_step()
        last = step >= state.max_steps
        every_eval, every_save = trainer.schedule.eval_steps, trainer.schedule.save_steps
        control.should_evaluate = bool(every_eval) and (last or step % every_eval == 0)
        control.should_save = last or step % every_save == 0
        self._obey(control)
        return control

    def _obey(self, control: TrainerControl) -> None:
        trainer = self.trainer
        for request in take_requests(trainer.job.directory):
            if request == "stop":
                trainer.job.stop.ask("asked to stop")
            control.should_evaluate |= request == "evaluate"
            control.should_save |= request in ("checkpoint", "stop")
            trainer.save_reason = "asked for" if request == "checkpoint" else trainer.save_reason
            trainer.job.events.write("control", request=request, outcome="accepted")
        if trainer.job.stop:
            control.should_save, control.should_training_stop, trainer.save_reason = True, True, "stopping"
