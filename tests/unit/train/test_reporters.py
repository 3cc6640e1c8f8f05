"""Curves for others: TensorBoard's own reader finds them, and a reporter that fails is left out aloud."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from engine.runs.events import read_events
from engine.train import trainer as trainer_module
from engine.train.reporters import Reporter
from tests.unit.train.conftest import make_settings, make_trainer


@pytest.fixture(autouse=True)
def no_settings_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "TENSORBOARD_LOGGING_DIR",
        "WANDB_DIR",
        "WANDB_PROJECT",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def test_tensorboard_reads_the_events_of_the_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(tmp_path / "run", make_settings(report_to=["tensorboard"]))
    trainer.train()
    trainer.job.events.close()
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "run" / "tensorboard")
    seen = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    seen.Reload()
    events, _ = read_events(tmp_path / "run" / "events.jsonl")
    for tag, kind, field in (("train/loss", "train_step", "loss"), ("eval/loss", "eval", "loss")):
        told = [(event["step"], event[field]) for event in events if event["type"] == kind]
        assert [(item.step, item.value) for item in seen.Scalars(tag)] == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in told
        ]
    assert {"train/grad_norm", "train/learning_rate", "train/tokens_per_second", "eval/perplexity"} <= set(
        seen.Tags()["scalars"]
    )


class Unreachable(TrainerCallback):
    """Works for one line."""

    lines = 0

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        Unreachable.lines += 1
        if Unreachable.lines > 1:
            raise ConnectionError("no route to\nthe server")


def test_a_reporter_that_fails_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "reporters", lambda names, folder, warn: [Reporter("wandb", Unreachable, warn)])
    trainer = make_trainer(tmp_path / "run", make_settings(report_to=["wandb"]))
    trainer.train()
    trainer.job.events.close()
    events, _ = read_events(tmp_path / "run" / "events.jsonl")
    warnings = [event for event in events if event["type"] == "warning"]
    assert [event["code"] for event in warnings] == ["report_failed"]
    assert warnings[0]["message"] == "wandb reports no further: ConnectionError: no route to"
    assert Unreachable.lines == 2
    assert trainer.state.global_step == 8


def test_nothing_is_reported_unless_asked(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings())
    trainer.train()
    trainer.job.events.close()
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ
