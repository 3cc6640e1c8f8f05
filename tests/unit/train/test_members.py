"""Checkpoints and evaluations by themselves, without a trainer around them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerState

from engine.data.batch import PackedDataset, collate
from engine.errors import EngineError
from engine.measure.meter import Meter
from engine.profile.schedule import plan_schedule
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.train.checkpointer import Checkpointer
from engine.train.micro_batches import MicroBatches
from engine.train.objectives.objective import Likelihood
from engine.train.validation import Validation
from tests.unit.train.conftest import make_packed, make_settings


def run_of(step: int) -> Any:
    """A model that learns, as a checkpoint sees it."""
    torch.manual_seed(step)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(step):
        model(torch.ones(3)).sum().backward()
        optimizer.step()
        schedule.step()
    state = TrainerState(global_step=step)
    accelerator = SimpleNamespace(scaler=None)
    return SimpleNamespace(
        model=model, optimizer=optimizer, lr_scheduler=schedule, state=state, accelerator=accelerator
    )


def job_in(folder: Path) -> Job:
    folder.mkdir(exist_ok=True)
    return Job(folder, {}, EventWriter(folder / "events.jsonl"))


def checkpointer(job: Job, digest: str = "rows") -> Checkpointer:
    parts = MicroBatches()
    parts.parts = 4 if digest == "rows" else 1
    return Checkpointer(job=job, settings=make_settings(), meter=Meter(), micro_batches=parts, data_digest=digest)


def test_a_checkpoint_brings_back_what_the_next_step_depends_on(tmp_path: Path) -> None:
    job, run = job_in(tmp_path / "run"), run_of(2)
    writing = checkpointer(job)
    writing.reason = "asked for"
    writing.save(run)
    folder = tmp_path / "run" / "checkpoints" / "step-2"
    event = read_events(tmp_path / "run" / "events.jsonl")[0][-1]
    assert (event["type"], event["step"], event["reason"], writing.reason) == ("checkpoint", 2, "asked for", "schedule")

    other, reading = run_of(0), checkpointer(job)
    reading._micro_batches.parts = 1
    reading.load_weights(other.model, folder)
    reading.load_optimizer(other, folder)
    assert torch.equal(other.model.weight, run.model.weight)
    assert other.lr_scheduler.last_epoch == 2
    assert reading._micro_batches.parts == 4
    for each in (run, other):
        each.model.zero_grad()
        each.model(torch.ones(3)).sum().backward()
        each.optimizer.step()
    assert torch.equal(other.model.weight, run.model.weight)


def test_a_checkpoint_of_other_rows_is_refused(tmp_path: Path) -> None:
    job, run = job_in(tmp_path / "run"), run_of(1)
    checkpointer(job).save(run)
    with pytest.raises(EngineError, match="training data is not what it was"):
        checkpointer(job, "others").restore(run, tmp_path / "run" / "checkpoints" / "step-1")


class Constant(Likelihood):
    """Any model loses the same at each token."""

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        return torch.tensor(model.each * self.items(batch))


def test_evaluations_know_the_best_and_when_there_is_no_more_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.train.validation.PROGRESS_S", 0.0)
    job, settings = job_in(tmp_path / "run"), make_settings(eval_steps=1, early_stopping_patience=2)
    validation = Validation(
        PackedDataset(make_packed(3, 5)),
        job=job,
        settings=settings,
        schedule=plan_schedule(settings, 11, has_validation=True),
        arguments=SimpleNamespace(per_device_train_batch_size=2, dataloader_pin_memory=False, device="cpu"),  # type: ignore[arg-type]
        objective=Constant(),
        micro_batches=MicroBatches(),
        collator=collate,
    )
    model, state, found = SimpleNamespace(eval=lambda: None, each=0.0), TrainerState(), []
    for step, each in enumerate((3.0, 2.0, 2.5, 2.5)):
        state.global_step, model.each = step, each
        evaluated = validation.evaluate(model, state, lambda batch: batch, nullcontext)
        assert evaluated is not None
        found.append((evaluated.loss, evaluated.best, validation.has_no_more_gain(state)))
    assert found == [(3.0, False, False), (2.0, True, False), (2.5, False, False), (2.5, False, True)]
    assert (state.best_metric, state.best_global_step) == (2.0, 1)
    told = [event for event in read_events(tmp_path / "run" / "events.jsonl")[0] if event["type"] == "progress"]
    assert [(event["phase"], event["done"], event["total"]) for event in told] == [("evaluate", 2, 3)] * 4
    job.stop.ask("SIGTERM")
    assert validation.evaluate(model, state, lambda batch: batch, nullcontext) is None
