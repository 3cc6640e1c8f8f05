"""Precision and usability, from hardware as data."""

from __future__ import annotations

import pytest

from engine.hardware.capabilities import best_dtype, cpu_bf16_native, generation, supports_bf16, usable_gpus
from engine.hardware.machine import Cpu, Gpu, Machine


def _machine(*gpus: Gpu, features: tuple[str, ...] = ()) -> Machine:
    cpu = Cpu("test", 4, 8, bf16_native=bool(features), features=features)
    return Machine("host", cpu, 2**34, 2**33, "/", 2**40, gpus=gpus)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((5, 2), False),
        ((7, 0), False),
        ((7, 5), False),
        ((8, 0), True),
        ((8, 9), True),
        ((9, 0), True),
        ((10, 0), True),
        ((12, 0), True),
        ((12, 1), True),
        (None, False),
    ],
)
def test_bf16_compares_numbers_not_text(capability: tuple[int, int] | None, expected: bool) -> None:
    assert supports_bf16(Gpu("x", compute_capability=capability)) is expected


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [
        ((8, 0), "bf16", "bf16: capability 8.0 (Ampere)"),
        ((12, 1), "bf16", "bf16: capability 12.1 (Blackwell)"),
        ((7, 5), "fp16", "fp16: capability 7.5 (Turing), bf16 needs 8.0"),
        ((7, 0), "fp16", "fp16: capability 7.0 (Volta), bf16 needs 8.0"),
        ((5, 2), "fp32", "fp32: capability 5.2"),
        (None, "fp16", "does not tell its capability"),
    ],
)
def test_best_dtype_of_a_card(capability: tuple[int, int] | None, dtype: str, reason: str) -> None:
    found, why = best_dtype(_machine(), Gpu("x", compute_capability=capability))
    assert found == dtype
    assert reason in why


@pytest.mark.parametrize(
    ("features", "dtype", "reason"),
    [
        ((), "fp32", "no bf16 instructions"),
        (("avx512_bf16",), "bf16", "AVX512-BF16"),
        (("avx512_bf16", "amx_bf16"), "bf16", "AVX512-BF16 and AMX"),
        (("bf16",), "bf16", "Arm BF16"),
    ],
)
def test_best_dtype_of_the_processor(features: tuple[str, ...], dtype: str, reason: str) -> None:
    machine = _machine(features=features)
    found, why = best_dtype(machine, None)
    assert (found, cpu_bf16_native(machine)) == (dtype, bool(features))
    assert reason in why


def test_usable_leaves_out_parents_and_unknown_memory() -> None:
    good = Gpu("good", free_bytes=1)
    part = Gpu("part", free_bytes=2, mig="slice")
    bad = (Gpu("parent", free_bytes=3, mig="parent"), Gpu("lost"), Gpu("full", free_bytes=0))
    assert usable_gpus(_machine(bad[0], part, *bad[1:], good)) == (part, good)


def test_generations() -> None:
    assert [generation(pair) for pair in ((6, 1), (8, 6), (8, 9), (9, 0), (10, 3), None, (5, 2))] == [
        "Pascal",
        "Ampere",
        "Ada",
        "Hopper",
        "Blackwell",
        None,
        None,
    ]
