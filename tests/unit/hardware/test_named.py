"""Cards as people name them: numbers, memory that one name has several of, and names that no plan is made for."""

from __future__ import annotations

import pytest

from engine.errors import EngineError
from engine.hardware.gpus import GpuSpec, known_gpus
from engine.hardware.named import named_cards


@pytest.mark.parametrize(
    ("name", "gib", "other"),
    [
        ("RTX 5060 Ti", 8, "16GB"),
        ("4060 Ti", 8, "16GB"),
        ("3060", 8, "12GB"),
        ("rtx3080", 10, "12GB"),
        ("RTX 2060", 6, "12GB"),
        ("RTX A2000", 6, "12GB"),
        ("V100", 16, "32GB"),
        ("A100", 40, "80GB"),
    ],
)
def test_the_smaller_memory_of_a_name_is_taken_aloud(name: str, gib: int, other: str) -> None:
    found = named_cards(name)
    assert round(found.spec.total_bytes / 1024**3) == gib
    assert f"planned for {gib} GB" in found.note
    assert f"'{name} {other}'" in found.note
    larger = named_cards(f"{name} {other}")
    assert larger.note == ""
    assert larger.spec.total_bytes > found.spec.total_bytes


@pytest.mark.parametrize("name", ["RTX 4090", "RTX 4060 Ti 16GB", "H100", "L4", "RTX 3080 Laptop", "A100 80GB"])
def test_a_name_of_one_memory_needs_no_word(name: str) -> None:
    assert named_cards(name).note == ""


@pytest.mark.parametrize("spec", known_gpus(), ids=lambda spec: spec.name)
def test_a_name_of_the_table_is_its_row(spec: GpuSpec) -> None:
    assert named_cards(spec.name).spec == spec


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("2 x RTX 4090", "NVIDIA GeForce RTX 4090", 2),
        ("2xH100", "NVIDIA H100 80GB HBM3", 2),
        ("8 × L40S", "NVIDIA L40S", 8),
        ("RTX 4090 x2", "NVIDIA GeForce RTX 4090", 2),
        ("A100 80GB x4", "NVIDIA A100-SXM4-80GB", 4),
        ("T4*2", "Tesla T4", 2),
        ("4 A100 80GB", "NVIDIA A100-SXM4-80GB", 4),
        ("2 RTX 4090", "NVIDIA GeForce RTX 4090", 2),
        ("RTX 5090", "NVIDIA GeForce RTX 5090", 1),
        ("RTX5090", "NVIDIA GeForce RTX 5090", 1),
    ],
)
def test_a_number_before_or_behind_the_name_counts(text: str, name: str, count: int) -> None:
    found = named_cards(text)
    assert (found.spec.name, found.count) == (name, count)
    assert named_cards(text, count).count == count


@pytest.mark.parametrize("text", ["0 x RTX 4090", "RTX 4090 x0", "65 x H100"])
def test_a_number_that_no_plan_is_for_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="cannot be planned for - name 1 to 64"):
        named_cards(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("T4 16GB", "Tesla T4"),
        ("L4 24GB", "NVIDIA L4"),
        ("A10G 24 GB", "NVIDIA A10G"),
        ("L40S 48GB", "NVIDIA L40S"),
        ("H200 141GB", "NVIDIA H200"),
        ("B200 192GB", "NVIDIA B200"),
        ("DGX Spark 128GB", "NVIDIA GB10"),
        ("RTX PRO 6000 96GB", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
        ("Jetson Orin 64GB", "NVIDIA Jetson AGX Orin 64GB"),
    ],
)
def test_the_memory_that_a_card_is_sold_with_may_stand_behind_its_name(text: str, name: str) -> None:
    assert named_cards(text).spec.name == name


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("RTX 4090 48GB", "24 GB"), ("RTX 3080 11GB", "10 GB or 12 GB"), ("V100 24GB", "16 GB or 32 GB")],
)
def test_a_memory_that_a_card_never_had_is_answered_with_those_it_has(text: str, sizes: str) -> None:
    with pytest.raises(EngineError) as caught:
        named_cards(text)
    assert f"comes with {sizes};" in caught.value.hint


def test_two_numbers_that_differ_are_refused() -> None:
    with pytest.raises(EngineError, match="2 cards, --count 3"):
        named_cards("2 x RTX 4090", 3)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Tesla P40", "too old (Pascal)"),
        ("GTX 1650", "too old (Turing)"),
        ("1660 Super", "too old (Turing)"),
        ("1080 Ti", "too old (Pascal)"),
        ("980 Ti", "too old (Maxwell)"),
        ("K80", "too old (Kepler)"),
        ("GeForce GTX 1080 Ti", "too old (Pascal)"),
        ("Quadro M4000", "too old (Maxwell)"),
        ("P100-PCIE-16GB", "too old (Pascal)"),
        ("RX 7900 XTX", "AMD's"),
        ("MI300X", "AMD's"),
        ("Radeon Pro W7900", "AMD's"),
        ("Arc A770", "Intel's"),
        ("Gaudi 3", "Intel's"),
        ("M3 Max", "Apple's"),
        ("TPU v5e", "Google's"),
    ],
)
def test_other_cards_are_refused_with_the_reason(name: str, word: str) -> None:
    with pytest.raises(EngineError) as caught:
        named_cards(name)
    assert word in caught.value.message
    assert "did you mean" not in caught.value.hint


def test_an_unknown_name_is_answered_with_those_that_look_like_it() -> None:
    with pytest.raises(EngineError) as caught:
        named_cards("RTX 9090")
    assert "RTX 5090" in caught.value.hint
