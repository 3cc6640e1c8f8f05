"""What cards are called, and which card a person's word means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.hardware.cards import card_name, card_title, find_card, listed_gpus
from engine.hardware.probe import hypothetical_machine

LARGE, SMALL = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"


def test_slices_are_told_from_their_card_and_from_each_other(replay: Any) -> None:
    machine = replay("mig")
    assert [card_name(gpu) for gpu in machine.gpus] == ["GPU 0", "GPU 0 MIG 3g.20gb #0", "GPU 0 MIG 1g.5gb #2"]
    assert card_title(machine.gpus[2]) == "GPU 0 MIG 1g.5gb #2 A100-SXM4-40GB"
    assert [gpu.uuid for gpu in listed_gpus(machine)] == [LARGE, SMALL], "the split card itself is no choice"


@pytest.mark.parametrize(
    ("wanted", "uuid"),
    [
        ("0:2", SMALL),
        ("0:0", LARGE),
        ("GPU 0 MIG 1g.5gb #2", SMALL),
        ("gpu 0 mig 3g.20gb", LARGE),
        ("GPU 0 MIG 1g.5gb #2 A100-SXM4-40GB", SMALL),
        ("MIG-cba6", SMALL),
        (" MIG-cba6 ", SMALL),
        (LARGE.upper(), LARGE),
    ],
)
def test_a_slice_is_found_by_number_name_and_uuid(replay: Any, wanted: str, uuid: str) -> None:
    assert find_card(replay("mig"), wanted).uuid == uuid


@pytest.mark.parametrize("wanted", ["1", "GPU 1", "gpu1", " 1 ", "GPU 1 ", "GPU 1 GeForce RTX 4090"])
def test_a_card_is_found_by_its_number(replay: Any, wanted: str) -> None:
    machine = replay("mixed")
    assert find_card(machine, wanted) is machine.gpus[1]


def test_a_uuid_that_is_whole_is_no_beginning_of_another(replay: Any) -> None:
    machine = replay("mixed")
    first, second = (replace(gpu, uuid=uuid) for gpu, uuid in zip(machine.gpus, ("GPU-1", "GPU-10"), strict=False))
    assert find_card(replace(machine, gpus=(second, first)), "gpu-1") is first


@pytest.mark.parametrize(
    ("recording", "wanted", "message"),
    [
        ("mixed", "9", "no GPU here is called '9'"),
        ("mixed", "GPU-", "names 2 GPUs"),
        ("mig", "0", "'0' names 2 GPUs"),
        ("mig", "0:1", "no GPU here is called '0:1'"),
        ("mixed", "GPU 1 GeForce RTX 3090", "no GPU here is called"),
        ("t4", "", "no GPU here is called ''"),
        ("no-gpu", "0", "no GPU here is called '0'"),
    ],
)
def test_a_name_of_none_or_several_lists_the_cards(replay: Any, recording: str, wanted: str, message: str) -> None:
    machine = replay(recording)
    with pytest.raises(EngineError) as raised:
        find_card(machine, wanted)
    assert raised.value.code is ExitCode.RESOURCES
    assert message in raised.value.message
    for gpu in listed_gpus(machine):
        assert card_title(gpu) in raised.value.hint
        assert (gpu.uuid or "")[:12] in raised.value.hint
    assert machine.gpus or "engine probe" in raised.value.hint


def test_a_card_that_cannot_be_used_says_why_and_what_can(replay: Any) -> None:
    machine = replay("mixed")
    gone = replace(machine.gpus[1], free_bytes=None, notes=("does not answer any more (lost): restart the machine",))
    with pytest.raises(EngineError) as raised:
        find_card(replace(machine, gpus=(machine.gpus[0], gone)), "1")
    assert "GPU 1 " in raised.value.message
    assert "cannot be used: does not answer any more" in raised.value.message
    assert "GPU 0 " in raised.value.hint
    assert "GPU 1 " not in raised.value.hint


def test_a_card_without_a_uuid_cannot_be_asked_for(replay: Any) -> None:
    machine = replay("mixed")
    nameless = tuple(replace(gpu, uuid=None) for gpu in machine.gpus)
    with pytest.raises(EngineError, match="does not tell its UUID"):
        find_card(replace(machine, gpus=nameless), "0")


def test_cards_of_the_table_are_numbered() -> None:
    machine = hypothetical_machine("RTX 4090", 2)
    assert [card_name(gpu) for gpu in machine.gpus] == ["GPU 0", "GPU 1"]
