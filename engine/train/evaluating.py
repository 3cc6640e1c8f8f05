"""One evaluation between two steps: held-out rows, then prompts, and what training does about what was found.

The trainer says when. Not here: how rows are measured (`validation.py`) and prompts are answered (`prompts.py`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.train.prompts import Prompts
    from engine.train.trainer import EngineTrainer
    from engine.train.validation import Validation


def evaluate(trainer: EngineTrainer) -> dict[str, float]:
    """Evaluate what the run has to evaluate on; the scores as Trainer names them."""
    if trainer.validation is None and trainer.prompts is None:
        trainer.job.warn("no_validation", "there are no held-out rows to evaluate on")
    scores = _validate(trainer, trainer.validation) if trainer.validation is not None else {}
    if trainer.prompts is not None and not trainer.job.stop:
        _answer(trainer, trainer.prompts)
    return scores


def _answer(trainer: EngineTrainer, prompts: Prompts) -> None:
    began = time.monotonic()
    trainer.peaks.enter("answers")
    prompts.answer(trainer.state.global_step, trainer.autocast)
    trainer.peaks.enter("between")
    trainer.meter.add_pause("answers", time.monotonic() - began)


def _validate(trainer: EngineTrainer, validation: Validation) -> dict[str, float]:
    """Measure held-out rows; the best is saved where the profile asks for it, and training ends without more gain."""
    began = time.monotonic()
    trainer.peaks.enter("evaluate")
    found = validation.evaluate(trainer.model, trainer.state, trainer._prepare_inputs, trainer.autocast)
    trainer.peaks.enter("between")
    if found is None:
        return {}
    trainer.meter.add_pause("evaluate", time.monotonic() - began)
    trainer.report({f"eval_{name}": value for name, value in {"loss": found.loss, **found.scores}.items()})
    if found.best and trainer.settings.train.load_best_model_at_end:
        trainer.control.should_save, trainer.checkpointer.reason = True, "best evaluation"
    if validation.has_no_more_gain(trainer.state):
        trainer.control.should_training_stop = True
    return {"eval_loss": found.loss}
