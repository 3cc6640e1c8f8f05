"""CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, as the CUDA programming guide describes them."""

from __future__ import annotations

from typing import Any

import pytest


def _indices(machine: Any) -> list[int]:
    return [gpu.index for gpu in machine.gpus]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 3 ", [1, 3]),
        ("", []),
        ("-1", []),
        ("0,-1,2", [0]),
        ("0,9,2", [0]),
        ("1,nonsense,2", [1]),
        ("NoDevFiles", []),
        ("1,1", []),
        ("2junk", [2]),
        ("GPU-bb33", [2]),
        ("GPU-cc,GPU-aa11", [3, 0]),
        ("GPU-aa", []),
        ("GPU-bb33,GPU-bb", []),
        ("GPU-ffff,0", []),
        ("3,GPU-aa22", [3, 1]),
    ],
)
def test_it_filters_and_orders(replay: Any, setting: str, expected: list[int]) -> None:
    machine = replay("four-h100", CUDA_VISIBLE_DEVICES=setting)
    assert _indices(machine) == expected
    assert machine.cuda_visible_devices == setting


def test_without_it_all_are_there(replay: Any) -> None:
    machine = replay("four-h100")
    assert _indices(machine) == [0, 1, 2, 3]
    assert not [note for note in machine.notes if "CUDA_VISIBLE" in note]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("0,9,2", "names no device with '9', which also hides what follows (2)"),
        ("GPU-aa", "names no device with 'GPU-aa'"),
        ("1,1", "names a device twice"),
        ("1", "hides 3 of 4 GPUs"),
        ("-1", "hides all 4 GPUs"),
    ],
)
def test_what_is_hidden_or_wrong_is_said(replay: Any, setting: str, says: str) -> None:
    assert any(says in note for note in replay("four-h100", CUDA_VISIBLE_DEVICES=setting).notes)


def test_hiding_on_purpose_is_not_called_a_mistake(replay: Any) -> None:
    assert not [note for note in replay("four-h100", CUDA_VISIBLE_DEVICES="-1").notes if "names no device" in note]


def test_ordinals_of_unlike_cards_count_from_the_fastest(replay: Any) -> None:
    machine = replay("mixed", CUDA_VISIBLE_DEVICES="0")
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA GeForce RTX 4090"]
    assert any("CUDA_DEVICE_ORDER=PCI_BUS_ID" in note for note in machine.notes)


def test_pci_order_is_nvmls(replay: Any) -> None:
    machine = replay("mixed", CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA GeForce RTX 3090"]
    assert not [note for note in machine.notes if "CUDA_DEVICE_ORDER" in note]


def test_uuids_need_no_order(replay: Any) -> None:
    machine = replay("mixed", CUDA_VISIBLE_DEVICES="GPU-2f9e")
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA GeForce RTX 3090"]
    assert not [note for note in machine.notes if "CUDA_DEVICE_ORDER" in note]


def test_a_slice_is_chosen_by_its_uuid(replay: Any) -> None:
    (gpu,) = replay("mig", CUDA_VISIBLE_DEVICES="MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb").gpus
    assert (gpu.mig, gpu.multiprocessors) == ("slice", 14)


@pytest.mark.parametrize("setting", ["0", "GPU-5d4c3b2a"])
def test_a_parent_stands_for_its_first_slice(replay: Any, setting: str) -> None:
    (gpu,) = replay("mig", CUDA_VISIBLE_DEVICES=setting).gpus
    assert (gpu.mig, gpu.multiprocessors) == ("slice", 42)


def test_several_slices_are_too_many_for_one_process(replay: Any) -> None:
    machine = replay("mig", CUDA_VISIBLE_DEVICES="MIG-cba6,MIG-c6d4")
    assert [gpu.multiprocessors for gpu in machine.gpus] == [14, 42]
    assert any("one MIG slice only" in note for note in machine.notes)
