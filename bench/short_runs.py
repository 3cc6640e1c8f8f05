"""A whole run of the training job in this process, of a few steps: what it learned, and what its files give back.

For tables of many cells (`methods.py`, `families.py`). Profile, resolution, data, training and saving are the engine's
own; the logits are those of the model as it was saved.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class ShortRun:
    """What a run left."""

    run_dir: Path
    losses: tuple[float, ...]
    """Of the held-out rows: before the first step, and at each evaluation."""
    logits: Any
    """fp32 [2, 32, vocabulary] of the model that was saved."""
    warnings: tuple[tuple[str, str], ...]
    """Codes and messages."""


def train(loaded: Any, run_dir: Path) -> ShortRun:
    """Train a loaded profile in `run_dir`. Raises EngineError as the job does."""
    from engine.files import write_json_atomic
    from engine.hardware.probe import probe_machine
    from engine.resolve.resolve import resolve_profile
    from engine.runs.events import EventWriter, read_events
    from engine.runs.job import Job
    from engine.train import outputs, run

    for name in ("control", "checkpoints"):
        (run_dir / name).mkdir(parents=True, exist_ok=True)
    write_json_atomic(run_dir / "run.json", resolve_profile(loaded, probe_machine()).to_run_json())
    seen: list[Any] = []
    save = outputs.save_weights

    def watched(run_dir: Path, model: Any, *rest: Any) -> str:
        seen.append(logits_of(model))
        return save(run_dir, model, *rest)

    events = EventWriter(run_dir / "events.jsonl")
    try:
        with mock.patch.object(outputs, "save_weights", watched):
            run.run(Job(run_dir, {}, events))
    finally:
        events.close()
    read = read_events(run_dir / "events.jsonl")[0]
    losses = tuple(event["loss"] for event in read if event["type"] == "eval")
    warnings = tuple((event["code"], event["message"]) for event in read if event["type"] == "warning")
    return ShortRun(run_dir, losses, seen[0], warnings)


def logits_of(model: Any) -> Any:
    """fp32 [2, 32, vocabulary] of two made-up rows."""
    import torch

    tokens = torch.arange(5, 69).reshape(2, 32)
    was_training, _ = model.training, model.eval()
    with torch.no_grad():
        found = model(input_ids=tokens, use_cache=False).logits.float()
    model.train(was_training)
    return found


def reloaded_logits(run_dir: Path) -> Any:
    """The same rows through the run's files, loaded as `engine evaluate` loads them."""
    from engine.inference.run import models, open_run
    from engine.modeling.load import keep_plain_layout
    from engine.runs.events import EventWriter
    from engine.runs.job import Job

    def warn(code: str, message: str) -> None:
        print(f"{run_dir.name}: {code}: {message}", file=sys.stderr)

    found = None
    job = Job(run_dir, {"run_dir": str(run_dir)}, EventWriter(run_dir / "reload.jsonl"))
    for name, model in models(open_run(job), "cpu", warn):
        found = model if name == "tuned" else None
    # Not the processor's own 4-bit layout, which computes in bf16.
    keep_plain_layout(found)
    return logits_of(found)


def difference(one: Any, other: Any) -> float:
    """The largest."""
    return float((one - other).abs().max())
