"""Runs that would learn next to nothing are told before they start."""

from __future__ import annotations

import pytest

from engine.profile.schedule import doubts_of
from engine.profile.schema import Profile

BASE = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "learning_rate": 1e-3}

CASES = [
    ({"num_train_epochs": 0.001}, 11, "train.num_train_epochs", "a single step (0.001 epochs of 11", "to 2"),
    ({"num_train_epochs": 3.0}, 1, "train.num_train_epochs", "only 3 steps", "lower model.max_length"),
    ({"num_train_epochs": 0.5}, 100, "train.num_train_epochs", "only 4 steps", "to 8"),
    ({"max_steps": 1}, 500, "train.max_steps", "a single step", "raise it"),
    ({"num_train_epochs": 50.0}, 9, "train.total_batch_size", "do not fill one step", "to 2"),
    ({"max_steps": 5, "warmup_steps": 100}, 90, "train.warmup_steps", "ends at 5 % of its peak of 0.001", "use 1,"),
    ({"max_steps": 20, "warmup_steps": 20}, 90, "train.warmup_steps", "only the last one has", "use 1,"),
    ({"max_steps": 200, "warmup_steps": 150}, 90, "train.warmup_steps", "150 of 200 steps warm up", "use 6,"),
    ({"num_train_epochs": 10.0, "warmup_ratio": 1.0}, 32, "train.warmup_ratio", "all 20 steps warm up", "use 0.03"),
]


def doubts(train, sequences):
    settings = Profile.model_validate(
        {
            "model": {"name_or_path": "demo"},
            "data": {"datasets": [{"path": "none.jsonl"}]},
            "train": {**BASE, **train},
        }
    )
    return doubts_of(settings, sequences)


@pytest.mark.parametrize(("train", "sequences", "key", "message", "hint"), CASES)
def test_a_pointless_run_is_told_with_its_cause_and_a_remedy(train, sequences, key, message, hint):
    (doubt,) = doubts(train, sequences)
    assert doubt.key == key
    assert message in doubt.message
    assert hint in doubt.hint


@pytest.mark.parametrize(
    ("train", "sequences"),
    [
        ({}, 100),
        ({"max_steps": 3}, 100),
        ({"max_steps": 100, "warmup_steps": 10}, 100),
        ({"max_steps": 50, "warmup_steps": 60, "lr_scheduler_type": "constant"}, 100),
    ],
)
def test_a_run_that_can_learn_is_not_nagged(train, sequences):
    assert doubts(train, sequences) == []
