"""A tiny Llama and packed random data, so that a whole training takes a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.data.batch import PackedDataset, collate
from engine.data.pack import Packed
from engine.modeling import adapters, attention, checkpointing
from engine.profile.schedule import plan_schedule
from engine.profile.schema import Profile
from engine.runs.events import EventWriter
from engine.runs.job import Job
from engine.train.arguments import training_arguments
from engine.train.trainer import EngineTrainer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_settings(
    *, dtype: str = "fp32", method: str = "lora", every: int = 0, device: str = "cpu", **train: Any
) -> Profile:
    """A resolved profile for the tiny model."""
    settings = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "activation_checkpointing": every or False,
        "max_steps": 8,
        "eval_steps": 4,
        "save_steps": 3,
        "save_total_limit": 10,
        "optim": "adamw_torch_fused",
    }
    return Profile.model_validate(
        {
            "model": {"name_or_path": "tiny", "dtype": dtype, "max_length": 32},
            "tuning": {"method": method},
            "lora": {"dropout": 0.1, "r": 4},
            "data": {"datasets": [{"path": "none.jsonl"}]},
            "train": {**settings, **train},
            "launch": {"device": device},
        }
    )


def make_packed(rows: int, seed: int) -> Packed:
    """Rows of 32 tokens: two documents, the first token of each untrained, no padding."""
    ids = np.random.default_rng(seed).integers(5, 60, (rows, 32)).astype(np.int32)
    labels = ids.copy()
    labels[:, [0, 10]] = -100
    lengths = tuple(np.array([10, 22], dtype=np.int32) for _ in range(rows))
    return Packed(ids, labels, lengths, np.zeros(rows, dtype=np.int32))


def make_trainer(folder: Path, settings: Profile) -> EngineTrainer:
    """A trainer over the tiny model, the same one every time."""
    attention.register()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model: Any = LlamaForCausalLM._from_config(config, attn_implementation=attention.NAME)
    model = model.to(DTYPES[str(settings.model.dtype)])
    if settings.tuning.method == "lora":
        model.requires_grad_(False)
        model = adapters.attach(model, settings)
    checkpointing.enable(model, int(settings.train.activation_checkpointing))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "control").mkdir(exist_ok=True)
    job = Job(folder, {}, EventWriter(folder / "events.jsonl"))
    schedule = plan_schedule(settings, 11, has_validation=True)
    return EngineTrainer(
        job=job,
        settings=settings,
        schedule=schedule,
        arguments=training_arguments(settings, schedule, folder),
        model=model,
        train_dataset=PackedDataset(make_packed(11, 0)),
        eval_dataset=PackedDataset(make_packed(3, 5)),
        collator=collate,
    )


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., EngineTrainer]:
    """Train the tiny model with the given settings in `tmp_path / name`."""

    def train(name: str = "run", **settings: Any) -> EngineTrainer:
        trainer = make_trainer(tmp_path / name, make_settings(**settings))
        trainer.train()
        return trainer

    return train


def weights(trainer: EngineTrainer) -> dict[str, torch.Tensor]:
    """What was learned."""
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters() if value.requires_grad}
