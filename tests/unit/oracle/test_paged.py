"""Paged optimizers are simulated without a card, and what fails inside is one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.errors import ExitCode
from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.oracle import __main__ as command
from engine.oracle.simulate import simulate

A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
SMOL = catalog_index()["smollm2-135m-instruct"]


@pytest.mark.parametrize("settings", [{"method": "full"}, {"lora_r": 256}], ids=str)
def test_paged_states_are_outside_the_allocator(settings: dict[str, Any]) -> None:
    shape = TrainingShape(max_length=512, optimizer="paged_adamw_8bit", **settings)
    plain = replace(shape, optimizer="adamw_bnb_8bit")
    paged, kept = (simulate(SMOL, each, gpu=A100) for each in (shape, plain))
    assert paged.optimizer_bytes < kept.optimizer_bytes
    estimate = estimate_memory(SMOL, shape, gpu=A100)
    assert -0.01 <= estimate.allocated_bytes / paged.allocated_bytes - 1 <= 0.01


def test_a_failure_nobody_foresaw_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fails(_: Any) -> None:
        raise KeyError("n_head")

    monkeypatch.setattr(command, "_answer", fails)
    assert command.main(["smollm2-135m-instruct"]) == ExitCode.INTERNAL
    said = capsys.readouterr().err
    assert "error: smollm2-135m-instruct: the simulation stopped with KeyError: 'n_head'" in said
    assert "Traceback" not in said
    with pytest.raises(KeyError):
        command.main(["smollm2-135m-instruct", "--debug"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--optimizer", "sgd"),
        ("--micro-batch", "0"),
        ("--lora-r", "-1"),
        ("--quantization", "nf5"),
        ("--method", "all"),
    ],
)
def test_values_that_no_run_can_have_are_refused_by_name(option: str, value: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        command.main(["smollm2-135m-instruct", option, value])
    assert option in capsys.readouterr().err
