"""What a run does when a number is not finite or memory runs out: the step is skipped, or done again in pieces."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.batch import PackedDataset, collate
from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile
from engine.runs.checkpoint import list_checkpoints
from engine.runs.events import read_events
from engine.train.micro_batches import MicroBatches
from engine.train.optimizer import MasterAdamW
from engine.train.state import load_trainable
from engine.train.stepguard import BadSteps, StepGuard
from engine.train.trainer import EngineTrainer
from tests.unit.train.conftest import make_packed, make_settings, make_trainer, weights


def events_of(trainer: EngineTrainer, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(trainer.job.directory / "events.jsonl")[0] if event["type"] == kind]


def without_dropout(**train: Any) -> Profile:
    settings = make_settings(**train)
    return settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})})


def poison(trainer: EngineTrainer, steps: set[int]) -> None:
    """The loss of these steps (0 = the first) is no number."""
    plain = trainer.objective.loss_sum
    trainer.objective.loss_sum = lambda model, batch: (
        plain(model, batch) * (math.nan if trainer.state.global_step in steps else 1.0)
    )


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_one_bad_step_leaves_weights_and_moments_as_they_were(tmp_path: Path, dtype: str, optim: str) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(dtype=dtype, optim=optim, save_steps=1, eval_steps=100))
    poison(trainer, {2})
    trainer.train()
    before, after = (tmp_path / "run" / "checkpoints" / f"step-{step}" for step in (2, 3))
    for name in ("trainable.safetensors", "optimizer.safetensors"):
        assert (before / name).read_bytes() == (after / name).read_bytes()
    assert trainer.state.global_step == 8
    warnings = [event for event in events_of(trainer, "warning") if event["code"] == "step_skipped"]
    assert [event["message"].split(":")[0] for event in warnings] == ["step 3"]
    losses = {event["step"]: event["loss"] for event in events_of(trainer, "train_step")}
    assert losses[3] is None
    assert all(losses[step] > 0 for step in losses if step != 3)
    assert all(value.isfinite().all() for value in weights(trainer).values())


def test_bad_steps_between_log_lines_are_told_with_the_next_one(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(logging_steps=4, eval_steps=100))
    poison(trainer, {1, 2})
    trainer.train()
    told = [event["message"] for event in events_of(trainer, "warning") if event["code"] == "step_skipped"]
    assert len(told) == 1
    assert "2 of the last steps were skipped" in told[0]


def test_three_bad_steps_in_a_row_stop_the_run_at_a_whole_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(save_steps=1, eval_steps=100))
    poison(trainer, {2, 3, 4, 5, 6, 7})
    with pytest.raises(EngineError, match="3 steps in a row, up to 5") as caught:
        trainer.train()
    assert caught.value.code is ExitCode.DIVERGED
    assert "learning_rate" in caught.value.hint
    last = list_checkpoints(trainer.job.directory / "checkpoints")[-1]
    load_trainable(trainer.model, last.path)
    assert all(value.isfinite().all() for value in weights(trainer).values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_optimizer_skips_by_a_flag_on_the_device(dtype: torch.dtype) -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=dtype))
    groups = [{"params": [weight]}]
    kind: Any = MasterAdamW if dtype == torch.bfloat16 else torch.optim.AdamW
    optimizer = kind(groups, lr=0.1, fused=True)
    guard = StepGuard(optimizer, weight.device)
    guard._on_device = True
    kept = []
    for norm in (1.0, math.inf, 1.0):
        weight.grad = torch.full_like(weight, norm)
        guard.saw_norm(torch.tensor(norm))
        guard.before_step()
        optimizer.step()
        kept.append(weight.detach().clone())
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])
    assert kept[2].isfinite().all()
    assert BadSteps.of(guard.figures().tolist()).skipped == 1


class Shortage:
    """Memory runs out wherever more than `rows` sequences are at work, `times` times."""

    def __init__(self, trainer: EngineTrainer, rows: int, times: float = math.inf, from_step: int = 0) -> None:
        self.plain, self.left, self.largest = trainer.objective.loss_sum, times, 0

        def loss_sum(model: Any, batch: Any) -> torch.Tensor:
            size = len(batch["input_ids"])
            if size > rows and self.left > 0 and trainer.state.global_step >= from_step:
                self.left -= 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            self.largest = max(self.largest, size)
            return self.plain(model, batch)

        trainer.objective.loss_sum = loss_sum


@pytest.mark.parametrize("accumulation", [1, 3])
def test_out_of_memory_halves_the_micro_batch_and_trains_the_same(tmp_path: Path, accumulation: int) -> None:
    settings = without_dropout(
        per_device_train_batch_size=4, gradient_accumulation_steps=accumulation, max_steps=4, eval_steps=2, save_steps=2
    )
    reference, short = (make_trainer(tmp_path / name, settings) for name in ("reference", "short"))
    told: list[int] = []
    short.on_smaller = lambda error, rows: told.append(rows)
    Shortage(short, rows=1, from_step=1)
    reference.train()
    short.train()
    assert told == [2, 1]
    ours, theirs = weights(short), weights(reference)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5
    steps = [
        [event[key] for event in events_of(one, "train_step")] for one in (short, reference) for key in ("tokens",)
    ]
    assert steps[0] == steps[1], "no row is counted twice"
    losses = [[event["loss"] for event in events_of(one, "train_step")] for one in (short, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_backward_pass_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = without_dropout(gradient_accumulation_steps=3, max_steps=2, eval_steps=100)
    reference, short = (make_trainer(tmp_path / name, settings) for name in ("reference", "short"))
    _break_backward(short, after=5)
    reference.train()
    short.train()
    assert short.micro_batches.parts == 2
    ours, theirs = weights(short), weights(reference)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


def _break_backward(trainer: EngineTrainer, after: int) -> None:
    """The `after`-th gradient of a matrix in the middle of the model does not fit any more, once."""
    seen = {"count": 0}

    def hook(gradient: torch.Tensor) -> None:
        seen["count"] += 1
        if seen["count"] == after:
            raise torch.OutOfMemoryError("CUDA out of memory")

    chosen = next(value for name, value in trainer.model.named_parameters() if "layers.1" in name and "lora_B" in name)
    chosen.register_hook(hook)


def test_a_resumed_run_keeps_the_smaller_pieces(tmp_path: Path) -> None:
    settings = without_dropout(max_steps=4, save_steps=2, eval_steps=100)
    first = make_trainer(tmp_path / "run", settings)
    Shortage(first, rows=1, times=1)
    first.train()
    assert first.micro_batches.parts == 2
    again = make_trainer(tmp_path / "run", settings)
    shortage = Shortage(again, rows=2)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoints" / "step-2"))
    assert again.micro_batches.parts == 2
    assert shortage.largest == 1


def test_one_sequence_that_does_not_fit_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings())
    Shortage(trainer, rows=0)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train()


def uneven(rows: int) -> PackedDataset:
    """Rows with one to three compared documents each, some of their tokens trained, some rows without any."""
    random = np.random.default_rng(2)
    packed = make_packed(rows, 1)
    packed.labels[random.random(packed.labels.shape) < 0.5] = -100
    packed.labels[1] = -100
    lengths = [np.array(sizes, dtype=np.int32) for sizes in ([32], [10, 22], [7, 9, 16], [4, 28])][:rows]
    roles = tuple(random.integers(-1, 6, len(sizes)).astype(np.int32) for sizes in lengths)
    dataset = PackedDataset(replace(packed, lengths=lengths, roles=roles))
    dataset.reference = [random.normal(size=len(sizes)).astype(np.float32) for sizes in lengths]
    return dataset


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_pieces_are_what_their_rows_alone_would_be(count: int) -> None:
    data = uneven(4)
    batch = collate([data[index] for index in range(4)])
    cut = MicroBatches()
    cut.parts = count
    parts = cut.of(batch)
    assert max(len(part["input_ids"]) for part in parts) == cut.rows_of(batch)
    start = 0
    for part in parts:
        end = start + len(part["input_ids"])
        alone = collate([data[index] for index in range(start, end)])
        assert part.keys() == alone.keys()
        for name in alone.keys() - {"max_doc_length", "real_tokens"}:
            assert np.array_equal(part[name], alone[name]), name
        start = end
    assert start == 4


def test_with_gradient_scaling_a_loss_that_is_no_number_is_told_and_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(save_steps=100, eval_steps=100))
    trainer.args.fp16 = True
    poison(trainer, {2})
    with pytest.raises(EngineError, match="loss is not a finite number at step 3"):
        trainer.train()
    assert [event["loss"] is None for event in events_of(trainer, "train_step")] == [False, False, True]


def test_with_gradient_scaling_steps_are_counted_and_left_to_the_scaler() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full_like(weight, math.inf)
    guard = StepGuard(torch.optim.AdamW([weight]), weight.device, scaled=True)
    guard.saw_loss(torch.tensor(1.0))
    guard.saw_norm(torch.tensor(math.inf))
    guard.before_step()
    assert weight.grad is not None
    found = BadSteps.of(guard.figures().tolist())
    assert (found.skipped, found.losses) == (1, 0)
