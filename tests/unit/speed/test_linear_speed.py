"""The speed of linear attention by plain operators: slower than the same work without it, and said to be rough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.api import fit
from engine.memory.shape import TrainingShape
from engine.models import packing
from engine.models.config import spec_from_config
from engine.models.spec import ModelSpec
from engine.speed.flops import micro_batch_flops
from engine.speed.linear_attention import launch_s, scan_bytes
from tests.unit.profile_machines import gpu, machine

CONFIG: dict[str, Any] = {
    "model_type": "qwen3_5_text",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 248320,
    "max_position_embeddings": 32768,
}
"""Qwen3.5-9B, by transformers' defaults."""


@pytest.fixture
def spec() -> ModelSpec:
    return spec_from_config(CONFIG, "q", "config.json", source="directory", path=None)


@pytest.mark.parametrize("installed", [False, True])
def test_plain_operators_cost_time_and_kernels_are_not_charged_for_it(
    spec: ModelSpec, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "is_installed", lambda module: installed)
    card = replace(gpu(capability=(8, 9)), name="NVIDIA GeForce RTX 4090")
    plan = fit.plan_model(spec, machine(card), fit.Requirements(max_length=1024))
    assert plan.speed_rough is not installed
    assert bool(scan_bytes(spec, plan.shape, 1.0)) is not installed
    # 24 layers of 16 chunks.
    assert launch_s(spec, plan.shape) == pytest.approx(0 if installed else 24 * 16 * 0.0002)


def test_only_layers_that_attend_have_scores(spec: ModelSpec) -> None:
    short, long = (TrainingShape(micro_batch=1, max_length=length, checkpoint_every=0) for length in (1024, 2048))
    per_token = [micro_batch_flops(spec, shape) / shape.max_length for shape in (short, long)]
    assert per_token[1] - per_token[0] == pytest.approx(2 * 1024 * 4096 * 8 * 3)
    dense = replace(spec, layer_groups=(), parameters=None)
    assert scan_bytes(dense, long, 1.0) == 0
