"""What a run begins with beside the base: the weights of an adapter, or weights and moments of another run.

The files lie in the run's folder `start/` (`engine.runs.start`). A resumed run goes the same way before its checkpoint
is loaded: objectives that compare need the model that they compare with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from engine.errors import EngineError, ExitCode
from engine.modeling.adapter_files import names_in, put_in_place
from engine.runs.job import Warn
from engine.runs.start import ADAPTER, REFERENCE, START, TRAINABLE, Start
from engine.train import state as saved

_WEIGHTS = "adapter_model.safetensors"


def form_of(run_dir: Path, start: Start | None) -> Path | None:
    """The adapter whose form the run's own has; None where its settings say it."""
    folder = run_dir / START / ADAPTER
    return folder if start is not None and folder.is_dir() else None


def load_before_reference(model: Any, run_dir: Path, start: Start | None, warn: Warn) -> None:
    """The weights that the run compares with: its first ones, or those that the other run compared with.

    Raises EngineError(MODEL) where they do not fit.
    """
    form = form_of(run_dir, start)
    if start is None:
        return
    if form is not None:
        file = form / _WEIGHTS
        put_in_place(model, file)
        _tell_missing(model, file, warn)
    name = TRAINABLE if start.new_reference else REFERENCE
    if (run_dir / START / name).is_file():
        _load(model, run_dir, name)


def load_first_weights(model: Any, run_dir: Path, start: Start | None) -> None:
    """The weights that training begins with, where they are others than those it compares with."""
    if start is not None and not start.new_reference and (run_dir / START / TRAINABLE).is_file():
        _load(model, run_dir, TRAINABLE)


def _load(model: Any, run_dir: Path, name: str) -> None:
    try:
        saved.load_trainable(model, run_dir / START, name)
    except (ValueError, SafetensorError) as error:
        raise EngineError(
            f"the state that the run begins with does not fit: {error}",
            code=ExitCode.MODEL,
            where=str(run_dir / START / name),
            hint="begin with a run of the same model and adapter",
        ) from None


def _tell_missing(model: Any, file: Path, warn: Warn) -> None:
    """What learns and is not in the adapter begins anew: a head that scores, for example."""
    known = names_in(file)
    missing = [
        name
        for name, value in model.named_parameters()
        if value.requires_grad and name.replace(".default", "").replace(".modules_to_save", "") not in known
    ]
    if missing:
        warn("adapter_part", f"{len(missing)} tensors that learn are not in the adapter and begin anew: {missing[0]} …")


def moments_of(run_dir: Path, start: Start | None) -> Path | None:
    """The folder whose optimizer state the run goes on with."""
    return run_dir / START if start is not None and start.moments else None


def load_moments(optimizer: torch.optim.Optimizer, folder: Path, warn: Warn) -> None:
    """Moments and masters of another run; rates and decay stay this one's."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    try:
        saved.load_optimizer(optimizer, folder)
    except (KeyError, ValueError, RuntimeError) as error:
        warn("moments_anew", f"the optimizer's moments begin anew: {(str(error).splitlines() or [''])[0]}")
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)
