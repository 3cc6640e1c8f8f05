"""The trainer: exact resume, honest numbers, obedience, and no checkpoint with a NaN."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from engine.errors import EngineError, ExitCode
from engine.runs import control
from engine.runs.checkpoint import list_checkpoints
from engine.runs.events import read_events
from engine.train.noise import Scored
from tests.unit.train.conftest import make_settings, make_trainer, weights


def events_of(trainer, kind):
    return [event for event in read_events(trainer.job.directory / "events.jsonl")[0] if event["type"] == kind]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dtype": "bf16"},
        {"dtype": "bf16", "method": "full"},
        {"every": 2},
        {"dataloader_num_workers": 2},
        {"gradient_accumulation_steps": 4},
    ],
    ids=str,
)
def test_resume_in_mid_epoch_is_bit_equal_to_the_uninterrupted_run(trained, tmp_path, settings):
    straight = trained("straight", **settings)
    source = straight.job.directory / "checkpoints" / "step-3"
    copy = tmp_path / "resumed" / "checkpoints" / source.name
    shutil.copytree(source, copy)
    resumed = make_trainer(tmp_path / "resumed", make_settings(**settings))
    resumed.train(resume_from_checkpoint=str(copy))

    assert resumed.state.global_step == straight.state.global_step == 8
    assert resumed.meter.tokens_total == straight.meter.tokens_total
    ours, theirs = weights(resumed), weights(straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_loss_falls_and_every_step_is_told(trained):
    trainer = trained(max_steps=20, learning_rate=3e-2, eval_steps=10)
    steps = events_of(trainer, "train_step")
    assert [event["step"] for event in steps] == list(range(1, 21))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(event["tokens_per_second"] > 0 for event in steps)
    # What is left at the last step is its evaluation and its checkpoint.
    assert 0 < steps[-1]["eta_s"] < steps[9]["eta_s"]
    # 11 sequences of 32 tokens an epoch; the last step of each has 3 of them.
    assert steps[2]["tokens"] == 11 * 32


def test_the_logged_loss_is_the_mean_over_trained_tokens(trained):
    trainer = trained(max_steps=1, warmup_ratio=0.0, eval_steps=1)
    logged = events_of(trainer, "train_step")[0]["loss"]
    assert logged == pytest.approx(math.log(64), abs=0.1)


def test_validation_loss_weighs_tokens_whatever_the_batch(tmp_path):
    losses = []
    for size in (1, 2, 3):
        trainer = make_trainer(tmp_path / str(size), make_settings(per_device_train_batch_size=size))
        losses.append(trainer.validation.loss(trainer.model, trainer._prepare_inputs, trainer.autocast))
    assert losses[0][1] == 3 * 30
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    assert losses[0][0] == pytest.approx(losses[2][0], rel=1e-6)


def test_bf16_weights_move_by_updates_smaller_than_their_own_step(trained):
    trainer = trained(dtype="bf16", method="full", learning_rate=1e-5, max_steps=30, eval_steps=30, save_steps=30)
    optimizer = trainer.optimizer.optimizer
    moved = [
        (master - weight.float()).abs().max()
        for master, weight in zip(optimizer._masters, optimizer._weights, strict=True)
    ]
    assert max(moved) > 0, "masters hold what bf16 rounds away"


def test_stop_request_saves_and_ends_the_run(tmp_path):
    trainer = make_trainer(tmp_path / "run", make_settings(save_steps=100, load_best_model_at_end=False))
    control.request(trainer.job.directory, "stop")
    trainer.train()
    assert trainer.state.global_step == 1
    assert [item.step for item in list_checkpoints(trainer.job.directory / "checkpoints")] == [1]
    assert events_of(trainer, "control")[0]["request"] == "stop"
    assert events_of(trainer, "checkpoint")[0]["reason"] == "stopping"


def test_evaluate_and_checkpoint_requests_are_obeyed(tmp_path):
    settings = make_settings(save_steps=100, eval_steps=100, max_steps=3, load_best_model_at_end=False)
    trainer = make_trainer(tmp_path / "run", settings)
    control.request(trainer.job.directory, "evaluate")
    control.request(trainer.job.directory, "checkpoint")
    trainer.train()
    assert [event["step"] for event in events_of(trainer, "eval")] == [1, 3]
    assert [event["step"] for event in events_of(trainer, "checkpoint")] == [1, 3]


def test_a_nan_in_a_weight_stops_the_run_and_is_never_saved(tmp_path):
    trainer = make_trainer(tmp_path / "run", make_settings(save_steps=1, eval_steps=100))
    plain = trainer.objective.loss_sum

    def poisoned(model, batch):
        if trainer.state.global_step == 2:
            with torch.no_grad():
                next(iter(weight for weight in model.parameters() if weight.requires_grad)).fill_(math.nan)
        return plain(model, batch)

    trainer.objective.loss_sum = poisoned
    with pytest.raises(EngineError, match="not finite at step 3") as caught:
        trainer.train()
    assert caught.value.code is ExitCode.DIVERGED
    assert list_checkpoints(trainer.job.directory / "checkpoints")[-1].step == 2


def test_the_best_evaluation_is_kept_and_put_back(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "run", make_settings(eval_steps=2, save_steps=100, save_total_limit=1))
    losses = iter([3.0, 1.0, 2.0, 2.5])
    kept = {}

    def scripted(step, *_):
        loss = next(losses)
        if loss == 1.0:
            kept.update(weights(trainer))
        return Scored(step, (10 * loss,), (10,))

    monkeypatch.setattr(trainer.validation, "scored", scripted)
    trainer.train()
    assert trainer.checkpointer.load_best(trainer) == 4
    now = weights(trainer)
    assert all(torch.equal(now[name], kept[name]) for name in kept)
    assert 4 in [item.step for item in list_checkpoints(trainer.job.directory / "checkpoints")]


def test_early_stopping_counts_evaluations_without_gain(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "run", make_settings(eval_steps=1, max_steps=20, early_stopping_patience=3))
    losses = iter([2.0, 1.0, 1.5, 1.4, 1.3, 0.1, 0.1])
    monkeypatch.setattr(trainer.validation, "scored", lambda step, *_: Scored(step, (10 * next(losses),), (10,)))
    trainer.train()
    assert trainer.state.global_step == 5
    assert [event["code"] for event in events_of(trainer, "warning")] == ["early_stopping"]


def test_a_checkpoint_of_other_parameters_is_refused(trained, tmp_path):
    trained("lora")
    other = make_trainer(tmp_path / "full", make_settings(method="full"))
    with pytest.raises(ValueError, match="trains other parameters"):
        other.train(resume_from_checkpoint=str(tmp_path / "lora" / "checkpoints" / "step-3"))


def test_a_run_is_not_resumed_on_other_data(trained, tmp_path):
    trainer = trained("run")
    trainer.checkpointer.data_digest = "other rows"
    with pytest.raises(EngineError, match="training data is not what it was") as caught:
        trainer.checkpointer.restore(trainer, tmp_path / "run" / "checkpoints" / "step-3")
    assert caught.value.code is ExitCode.DATA


def test_a_run_with_all_its_steps_is_restored_without_training_on(trained, tmp_path):
    straight = trained("straight")
    again = make_trainer(tmp_path / "again", make_settings())
    again.checkpointer.restore(again, straight.job.directory / "checkpoints" / "step-8")
    assert again.state.global_step == 8
    ours, theirs = weights(again), weights(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_damaged_best_checkpoint_is_not_put_back(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "run", make_settings(eval_steps=2, save_steps=100))
    losses = iter([1.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(trainer.validation, "scored", lambda step, *_: Scored(step, (10 * next(losses),), (10,)))
    trainer.train()
    before = weights(trainer)
    file = trainer.job.directory / "checkpoints" / "step-2" / "trainable.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert trainer.checkpointer.load_best(trainer) == 8
    now = weights(trainer)
    assert all(torch.equal(now[name], before[name]) for name in now)
    assert events_of(trainer, "warning")[-1]["code"] == "best_missing"


def test_a_request_to_stop_ends_an_evaluation(tmp_path):
    trainer = make_trainer(tmp_path / "run", make_settings())
    trainer.job.stop.ask("SIGTERM")
    assert trainer._evaluate(None, None) == {}
    assert trainer.state.best_metric is None
    assert events_of(trainer, "warning")[0]["code"] == "evaluation_cut"
