"""The learning rate of every step: never 0, and behind the warm-up as transformers has it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from transformers import get_scheduler

from engine.profile.schedule import Schedule
from engine.profile.tables.train import Train
from engine.train.rates import rate_schedule
from tests.unit.train.conftest import make_settings, make_trainer, weights

KINDS = get_args(Train.model_fields["lr_scheduler_type"].annotation)


def rates_of(kind, steps, warmup, peak=1e-3):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=peak)
    settings = Train(lr_scheduler_type=kind, learning_rate=peak)
    scheduler = rate_schedule(settings, Schedule(steps, steps, 0, steps, warmup), optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == found[-1:]
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (2, 1), (10, 4), (5, 100)])
def test_every_step_of_every_schedule_learns_and_what_follows_the_warmup_is_as_it_was(kind, steps, warmup):
    found = rates_of(kind, steps, warmup)
    assert all(0 < rate <= 1e-3 for rate in found)
    if kind != "constant":
        assert found[:warmup] == pytest.approx([1e-3 * (step + 1) / warmup for step in range(min(steps, warmup))])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
    theirs = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=steps).lr_lambdas[0]
    assert found[warmup:] == pytest.approx([1e-3 * theirs(step) for step in range(warmup, steps)])


def test_a_peak_below_the_end_of_a_polynomial_decay_trains():
    found = rates_of("polynomial", 4, 1, peak=5e-8)
    assert found[0] == 5e-8
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("kind", ["cosine", "constant_with_warmup"])
def test_a_run_of_one_step_moves_the_weights(tmp_path, kind):
    trainer = make_trainer(tmp_path, make_settings(max_steps=1, warmup_ratio=0.03, lr_scheduler_type=kind))
    before = weights(trainer)
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in weights(trainer).items() if "lora_B" in name)
