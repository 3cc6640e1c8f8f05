"""Comparing answers: each loss by its paper's formula, by document and not by sequence, and a model that learns it."""

from __future__ import annotations

import math
import shutil
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.data.batch import PackedDataset, collate
from engine.data.pack import Packed
from engine.data.preference import CHOSEN, DESIRED, MISMATCHED, PADDING, REJECTED, UNDESIRED
from engine.modeling import forward
from engine.modeling.adapters import base_of
from engine.profile.schema import Profile
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.train.assembly import build_trainer
from engine.train.micro_batches import MicroBatches
from engine.train.objectives.objective import Preference
from engine.train.objectives.preference import dpo, kto, orpo
from engine.train.objectives.reference import add_reference
from tests.unit.train.conftest import make_settings, make_trainer, weights

ROLES = {"dpo": (CHOSEN, REJECTED), "orpo": (CHOSEN, REJECTED), "kto": (DESIRED, MISMATCHED)}


def pairs(rows: int, roles: tuple[int, int], seed: int = 0) -> Packed:
    """Rows of 32 tokens: two answers of 13 and 15 tokens to one prompt, and padding; good ones hold small ids."""
    random = np.random.default_rng(seed)
    ids = random.integers(5, 60, (rows, 32)).astype(np.int32)
    ids[:, 5:13], ids[:, 18:28] = random.integers(5, 20, (rows, 8)), random.integers(40, 60, (rows, 10))
    labels = ids.copy()
    labels[:, :5] = labels[:, 13:18] = labels[:, 28:] = -100
    kinds = [list(roles) for _ in range(rows)]
    if roles[0] == DESIRED:
        for row in range(1, rows, 2):
            kinds[row][0] = UNDESIRED
            ids[row, 5:13], ids[row, 18:28] = random.integers(40, 60, 8), random.integers(5, 20, 10)
            labels[row, 5:13], labels[row, 18:28] = ids[row, 5:13], ids[row, 18:28]
    lengths = tuple(np.array([13, 15, 4], dtype=np.int32) for _ in range(rows))
    found = tuple(np.array([*kind, PADDING], dtype=np.int32) for kind in kinds)
    return Packed(ids, labels, lengths, np.full(rows, 4, dtype=np.int32), found)


def trainer_for(folder: Any, objective: str, **train: Any) -> Any:
    settings = make_settings(objective=objective, **{"learning_rate": 3e-2, "max_steps": 30, "eval_steps": 15, **train})
    plain = Profile.model_validate(settings.model_dump() | {"lora": settings.lora.model_dump() | {"dropout": 0.0}})
    trainer = make_trainer(folder, plain)
    trainer.train_dataset = PackedDataset(pairs(8, ROLES[objective]))
    trainer.validation.dataset = PackedDataset(pairs(4, ROLES[objective], seed=3))
    if objective != "orpo":
        for dataset in (trainer.train_dataset, trainer.validation.dataset):
            reference(trainer, dataset)
    return trainer


def reference(trainer: Any, dataset: PackedDataset, rows: int = 3) -> None:
    add_reference(
        trainer.model,
        dataset,
        rows=rows,
        collate=collate,
        prepare=trainer._prepare_inputs,
        autocast=trainer.autocast,
        on_progress=lambda done, total: None,
    )


def logps_of_each(model: Any, packed: Packed) -> torch.Tensor:
    """Log-probabilities of every document, each alone through the whole model: [rows, 2]."""
    found = []
    for row in range(len(packed)):
        for start, end in ((0, 13), (13, 28)):
            ids = torch.tensor(packed.input_ids[row, start:end][None].astype(np.int64))
            labels = torch.tensor(packed.labels[row, start:end][None].astype(np.int64))
            logits = base_of(model)(input_ids=ids).logits[:, :-1].float()
            found.append(-F.cross_entropy(logits[0], labels[0, 1:], reduction="sum", ignore_index=-100))
    return torch.stack(found).reshape(-1, 2)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_document_losses_and_their_gradients_are_those_of_each_document_alone(tmp_path: Any, method: str) -> None:
    settings = make_settings(method=method)
    trainer = make_trainer(tmp_path / "run", settings)
    trainer.model.eval()
    packed = pairs(3, ROLES["dpo"])
    batch = collate([PackedDataset(packed)[row] for row in range(3)])
    losses, tokens = forward.document_losses(trainer.model, batch)
    alone = logps_of_each(trainer.model, packed)
    assert torch.allclose(-losses.reshape(3, 3)[:, :2], alone, atol=1e-4)
    assert losses.reshape(3, 3)[:, 2].abs().max() == 0, "padding costs nothing"
    assert tokens.reshape(3, 3).tolist() == [[8, 10, 0]] * 3
    weights = torch.tensor([1.0, -2.0, 0.0] * 3)
    learned = [value for value in trainer.model.parameters() if value.requires_grad]
    ours = torch.autograd.grad((losses * weights).sum(), learned, allow_unused=True)
    theirs = torch.autograd.grad((-alone * weights.reshape(3, 3)[:, :2]).sum(), learned, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-4)


def test_the_losses_are_the_papers() -> None:
    torch.manual_seed(1)
    chosen, rejected, first, second = -torch.rand(4, 5).mul(20)
    expected = [
        -math.log(1 / (1 + math.exp(-0.3 * ((c - a) - (r - b)))))
        for c, r, a, b in zip(*(x.tolist() for x in (chosen, rejected, first, second)), strict=True)
    ]
    assert dpo(chosen, rejected, (first, second), 0.3).loss == pytest.approx(sum(expected), rel=1e-5)

    means, others = -torch.rand(2, 5).mul(3).add(0.01)
    odds = [math.exp(value) / (1 - math.exp(value)) for value in means.tolist()]
    against = [math.exp(value) / (1 - math.exp(value)) for value in others.tolist()]
    expected = [
        -value - 0.2 * math.log(1 / (1 + math.exp(-math.log(one / two))))
        for value, one, two in zip(means.tolist(), odds, against, strict=True)
    ]
    assert orpo(means, others, 0.2).loss == pytest.approx(sum(expected), rel=1e-5)

    good, bad, stray = torch.tensor([2.0, -1.0]), torch.tensor([0.5]), torch.tensor([3.0, -1.0, 1.0])
    sigmoid = lambda value: 1 / (1 + math.exp(-value))  # noqa: E731
    expected = [1 - sigmoid(0.5 * (2 - 1)), 1 - sigmoid(0.5 * (-1 - 1)), 1 - sigmoid(0.5 * (1 - 0.5))]
    assert kto(good, bad, stray, 0.5).loss == pytest.approx(sum(expected), rel=1e-5)
    assert kto(good, bad, -stray.abs(), 0.5).loss == kto(good, bad, torch.zeros(0), 0.5).loss, "never below zero"


def test_certain_answers_keep_orpo_finite() -> None:
    sure = torch.zeros(2, requires_grad=True)
    loss = orpo(sure, sure - 1, 0.1).loss
    loss.backward()
    assert loss.isfinite()
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_training_begins_where_the_base_is(tmp_path: Any, objective: str) -> None:
    trainer = trainer_for(tmp_path / "run", objective)
    loss, items = trainer.validation.loss(trainer.model, trainer._prepare_inputs, trainer.autocast)
    assert items == 4
    assert loss == pytest.approx(math.log(2) if objective == "dpo" else 0.5, abs=1e-4)


def test_the_reference_is_the_same_whatever_the_batch(tmp_path: Any) -> None:
    trainer = trainer_for(tmp_path / "run", "dpo")
    found = []
    for rows in (1, 3, 8):
        reference(trainer, trainer.train_dataset, rows)
        found.append(np.concatenate(trainer.train_dataset.reference))
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert np.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_a_model_learns_which_answers_are_better(tmp_path: Any, objective: str) -> None:
    trainer = trainer_for(tmp_path / "run", objective)
    trainer._evaluate(None, None)
    trainer.train()
    events = read_events(tmp_path / "run" / "events.jsonl")[0]
    steps = [event for event in events if event["type"] == "train_step"]
    evaluations = [event for event in events if event["type"] == "eval"]
    assert steps[-1]["loss"] < 0.95 * steps[0]["loss"]
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
    assert steps[-1]["reward_preferred"] > steps[-1]["reward_other"]
    assert "perplexity" not in evaluations[-1]
    if objective != "kto":
        assert evaluations[-1]["accuracy"] == 1.0
        assert steps[-1]["reward_margin"] > 0


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_resumed_comparison_is_bit_equal_to_the_uninterrupted_one(tmp_path: Any, objective: str) -> None:
    straight = trainer_for(tmp_path / "straight", objective, max_steps=6, save_steps=3, eval_steps=6)
    straight.train()
    copy = tmp_path / "resumed" / "checkpoints" / "step-3"
    shutil.copytree(tmp_path / "straight" / "checkpoints" / "step-3", copy)
    resumed = trainer_for(tmp_path / "resumed", objective, max_steps=6, save_steps=3, eval_steps=6)
    resumed.train(resume_from_checkpoint=str(copy))
    ours, theirs = weights(resumed), weights(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_that_begins_with_an_adapter_begins_where_that_is_in_16_bits_too(tmp_path: Any) -> None:
    settings = make_settings(dtype="bf16", objective="dpo", beta=1.0, max_steps=1)
    settings = settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})})
    model = make_trainer(tmp_path, settings).model
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.2)
    job = Job(tmp_path, {}, EventWriter(tmp_path / "events.jsonl"))
    data = SimpleNamespace(train=pairs(8, ROLES["dpo"]), validation=pairs(4, ROLES["dpo"], seed=3))
    trainer = build_trainer(job, settings, model, cast("Any", data))
    assert trainer.ways == ("fused",)
    assert len(trainer.train_dataset.reference) == 8
    trainer.train()
    (step,) = (event for event in read_events(tmp_path / "events.jsonl")[0] if event["type"] == "train_step")
    assert step["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_pieces_keep_the_pairs_and_what_they_compare_with(tmp_path: Any) -> None:
    trainer = trainer_for(tmp_path / "run", "dpo")
    batch = collate([trainer.train_dataset[row] for row in range(4)])
    trainer.model.eval()
    whole = float(Preference("dpo", 0.1)(trainer.model, batch))
    cut = MicroBatches()
    cut.parts = 4
    parts = cut.of(batch)
    assert [Preference("dpo", 0.1).items(part) for part in parts] == [1, 1, 1, 1]
    assert sum(float(Preference("dpo", 0.1)(trainer.model, part)) for part in parts) == pytest.approx(whole, rel=1e-5)
