"""A device's memory part by part, and why a verdict is not OK."""

from __future__ import annotations

import pytest

from engine.hardware.machine import Cpu, Machine
from engine.hardware.probe import hypothetical_machine
from engine.memory.shape import GIB
from engine.models.catalog import catalog_index
from engine.recommend.plan import Plan, Requirements
from engine.recommend.room import limit_words, room_of
from engine.recommend.search import plan_model

MODELS = catalog_index()
DESK = Machine("desk", Cpu("Slow", 2, 2), 32 * GIB, 24 * GIB, "/", 100 * GIB)


def on(machine: Machine, model: str, **asked: object) -> Plan:
    return plan_model(MODELS[model], machine, Requirements(**asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(("card", "model"), [("RTX 4090", "qwen3-8b"), ("RTX 3060", "qwen3-32b"), ("", "qwen3-0.6b")])
def test_the_parts_are_the_whole_device(card: str, model: str) -> None:
    plan = on(hypothetical_machine(card) if card else DESK, model)
    room = room_of(plan)
    needed = sum(term.bytes for term in room.terms)
    assert needed == plan.estimate.device_bytes
    parts = room.taken_bytes + needed + room.margin_bytes + room.free_bytes
    assert parts == room.total_bytes + room.short_bytes
    assert (room.short_bytes > 0) == (plan.verdict == "NO")
    assert card or room.taken_bytes == 8 * GIB


def test_the_words_say_what_is_too_little() -> None:
    small = hypothetical_machine("RTX 3060")
    short = on(small, "qwen3-32b")
    assert short.verdict == "NO"
    assert limit_words(short).endswith(" GiB short")
    slow = on(DESK, "qwen3-1.7b", max_length=512)
    assert (slow.verdict, slow.limit) == ("TIGHT", "speed")
    assert limit_words(slow) == "slow: under 30 tokens/s"
    long = on(small, "smollm2-135m", max_length=32768, micro_batch=1)
    assert (long.verdict, long.limit) == ("NO", "context")
    assert limit_words(long) == "the model reads 8,192 tokens, not 32,768"
    assert limit_words(on(small, "smollm2-135m")) == ""
