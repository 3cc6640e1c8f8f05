"""Training curves for TensorBoard, Weights & Biases, MLflow and Trackio, through transformers' own callbacks.

Off unless the profile asks. A reporter that fails is told and left out: a tracking server that goes away must not end
a night of training.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.integrations import get_reporting_integration_callbacks

from engine.runs.job import Warn


def reporters(names: Sequence[str], run_dir: Path, warn: Warn) -> list[TrainerCallback]:
    """A guarded callback for each name. What they write on this machine goes into the run's folder.

    MLflow keeps all runs in one store beside theirs, as its own interface compares runs of one store.
    """
    defaults = {
        "TENSORBOARD_LOGGING_DIR": str(run_dir / "tensorboard"),
        "WANDB_DIR": str(run_dir),
        "WANDB_PROJECT": "tunedeck",
        "MLFLOW_TRACKING_URI": f"sqlite:///{run_dir.parent.parent / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": "tunedeck",
    }
    for key, value in defaults.items() if names else ():
        os.environ.setdefault(key, value)
    return [Reporter(name, get_reporting_integration_callbacks([name])[0], warn) for name in names]


def at_step(state: TrainerState, step: int | None) -> TrainerState:
    """The state with the number of an earlier step, for figures that are reported late."""
    if step is None:
        return state
    earlier = copy.copy(state)
    earlier.global_step = step
    return earlier


class Reporter(TrainerCallback):
    """Passes begin, log lines and end on to the callback that `make` gives; the first failure is the last call."""

    def __init__(self, name: str, make: Callable[[], TrainerCallback], warn: Warn) -> None:
        self.name, self._make, self._warn = name, make, warn
        self._inner: TrainerCallback | None = None
        self._failed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the report."""
        self._pass("on_train_begin", args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add a line."""
        self._pass("on_log", args, state, control, **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the report."""
        self._pass("on_train_end", args, state, control, **kwargs)

    def _pass(self, event: str, *args: Any, **kwargs: Any) -> None:
        if self._failed:
            return
        try:
            if self._inner is None:
                self._inner = self._make()
            getattr(self._inner, event)(*args, **kwargs)
        except Exception as error:
            self._failed = True
            first = (str(error).splitlines() or [""])[0][:200]
            self._warn("report_failed", f"{self.name} reports no further: {type(error).__name__}: {first}")
