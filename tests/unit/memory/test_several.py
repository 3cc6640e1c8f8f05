"""The outlook on several cards: what is kept everywhere, what is shared, and what cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.cli.fit_detail import show_detail
from engine.hardware.machine import Gpu
from engine.hardware.probe import hypothetical_machine
from engine.memory.phases import peak
from engine.memory.several import COMMUNICATION_BYTES, outlook
from engine.memory.shape import GIB, TrainingShape
from engine.models.catalog import catalog_index
from engine.recommend.fit_report import FitReport
from engine.recommend.plan import Requirements
from engine.recommend.search import plan_model

LLAMA = catalog_index()["llama-3.1-8b"]
CARD = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
LORA, FULL = TrainingShape(), TrainingShape(method="full")


def test_replicated_cards_hold_everything_and_gradients_once_more() -> None:
    for shape in (LORA, FULL):
        alone = peak(LLAMA, shape, CARD)
        more = outlook(LLAMA, shape, 2, CARD).replicated_bytes - alone.device_bytes
        assert more == alone.states.gradients_bytes + COMMUNICATION_BYTES
        assert outlook(LLAMA, shape, 8, CARD).replicated_bytes == outlook(LLAMA, shape, 2, CARD).replicated_bytes


def test_sharding_shares_weights_gradients_and_states() -> None:
    """Full tuning in bf16 keeps 14 bytes a parameter: weights, fp32 masters and two moments, and 2 of gradients."""
    two, four, many = (outlook(LLAMA, FULL, cards, CARD).sharded_bytes or 0 for cards in (2, 4, 64))
    shared = 14 * 8_030_261_248
    assert shared / 4 <= two - four <= 1.2 * shared / 4
    assert many < peak(LLAMA, FULL, CARD).device_bytes / 4
    embeddings = 2 * 2 * 128_256 * 4096
    assert many > embeddings + 2 * 2 * 218_112_000, "embeddings, the head and two layers are gathered"


def test_cards_that_differ_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    machine = hypothetical_machine("RTX 4090", 2)
    plan = plan_model(LLAMA, machine, Requirements())
    mixed = (machine.gpus[0], replace(machine.gpus[1], name="NVIDIA GeForce RTX 3060", total_bytes=12 * GIB))
    show_detail(FitReport(plan, gpu=mixed[0], cards=mixed))
    assert "the cards differ" in " ".join(capsys.readouterr().out.split())
    show_detail(FitReport(plan, gpu=machine.gpus[0], cards=machine.gpus))
    assert "the cards differ" not in " ".join(capsys.readouterr().out.split())


def test_int8_weights_are_not_sharded() -> None:
    found = outlook(LLAMA, replace(LORA, quantization="int8"), 2, CARD)
    assert found.sharded_bytes is None
    assert found.replicated_bytes > 9 * GIB
