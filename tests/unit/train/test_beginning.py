"""A run that begins with the state of another goes on as if there had been no break."""

from __future__ import annotations

import shutil

import pytest

from engine.runs.start import BRANCH, START, Start
from engine.train import beginning
from tests.unit.train.conftest import make_settings, make_trainer, weights

SETTINGS = {
    "method": "full",
    "per_device_train_batch_size": 11,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "constant",
    "learning_rate": 1e-3,
    "eval_steps": 100,
    "save_steps": 1,
}


def gone_on(folder, checkpoint, *, moments=True, dtype="fp32", **train):
    """Two steps more from a checkpoint."""
    shutil.copytree(checkpoint, folder / START)
    start = Start(kind=BRANCH, run="first", moments=moments)
    trainer = make_trainer(folder, make_settings(dtype=dtype, max_steps=2, **{**SETTINGS, **train}))
    beginning.load_before_reference(trainer.model, folder, start, trainer.job.warn)
    trainer.moments = beginning.moments_of(folder, start)
    return trainer


def values(trainer):
    """What was learned, in full precision."""
    masters = getattr(trainer.optimizer.optimizer, "_masters", None)
    return list(weights(trainer).values()) if masters is None else masters


def distance(one, other):
    return max(float((ours - theirs).abs().max()) for ours, theirs in zip(values(one), values(other), strict=True))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_two_steps_and_two_more_are_four(trained, tmp_path, dtype):
    straight = trained("straight", max_steps=4, dtype=dtype, **SETTINGS)
    checkpoint = straight.job.directory / "checkpoints" / "step-2"
    more = gone_on(tmp_path / "more", checkpoint, dtype=dtype)
    more.train()
    # One row order is another: sums of floats differ in their last place.
    assert distance(more, straight) < 2e-4
    anew = gone_on(tmp_path / "anew", checkpoint, moments=False, dtype=dtype)
    anew.train()
    assert distance(anew, straight) > 5e-4

    copy = tmp_path / "resumed" / "checkpoints" / "step-1"
    shutil.copytree(more.job.directory / "checkpoints" / "step-1", copy)
    resumed = gone_on(tmp_path / "resumed", checkpoint, dtype=dtype)
    resumed.train(resume_from_checkpoint=str(copy))
    assert distance(resumed, more) == 0.0


def test_rate_and_decay_are_the_new_runs_own(trained, tmp_path):
    straight = trained("straight", max_steps=2, **SETTINGS)
    checkpoint = straight.job.directory / "checkpoints" / "step-2"
    more = gone_on(tmp_path / "more", checkpoint, learning_rate=1e-5, weight_decay=0.5)
    more.train()
    matrices = more.optimizer.param_groups[0]
    assert (matrices["lr"], matrices["initial_lr"], matrices["weight_decay"]) == (1e-5, 1e-5, 0.5)
    assert next(iter(more.optimizer.optimizer.state.values()))["step"] == 4


def test_a_damaged_state_is_refused_with_words(trained, tmp_path):
    from engine.errors import EngineError

    straight = trained("straight", max_steps=1, **SETTINGS)
    checkpoint = straight.job.directory / "checkpoints" / "step-1"
    (checkpoint / "trainable.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(EngineError, match="does not fit"):
        gone_on(tmp_path / "more", checkpoint)


def test_a_state_of_other_parameters_is_refused_with_words(trained, tmp_path):
    from engine.errors import EngineError

    straight = trained("straight", max_steps=1, **SETTINGS)
    with pytest.raises(EngineError, match="does not fit") as raised:
        gone_on(tmp_path / "more", straight.job.directory / "checkpoints" / "step-1", method="lora")
    assert raised.value.hint
