"""A part of the table of methods, run again; and the committed table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
RECORD = json.loads((ROOT / "bench/results/methods-cpu.json").read_text())["cells"]


def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_methods", ROOT / "bench/methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Frozen dataclasses look their module up by name.
    import sys

    sys.modules["bench_methods"] = module
    spec.loader.exec_module(module)
    return module


BENCH = bench()
TRAINED = (
    "full/none/orpo",
    "freeze/none/sft",
    "dora/int8/reward",
    "pissa/none/kto",
    "lora+/nf4/dpo",
    "rslora/fp4/pretrain",
)
REFUSED = ("full/int8/sft", "freeze/nf4/dpo", "pissa/fp4/kto")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    BENCH.write_rows(tmp_path)
    return tmp_path


def cell(name: str) -> Any:
    return BENCH.Cell(*name.split("/"))


@pytest.mark.parametrize("name", TRAINED)
def test_a_cell_learns_and_its_weights_give_the_same_logits(folder: Path, name: str) -> None:
    assert BENCH.problems_of(cell(name), folder) == []
    found = BENCH.run_cell(cell(name), folder)
    assert found["loss_after"] < 0.8 * found["loss_before"]
    assert found["logit_difference"] <= 1e-4 * found["logit_scale"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_cell_without_sense_is_refused_with_the_reason(folder: Path, name: str) -> None:
    (problem,) = BENCH.problems_of(cell(name), folder)
    assert "cannot be trained" in problem or "changes the base" in problem


def test_the_committed_table_has_every_cell_and_all_of_them_learn() -> None:
    assert set(RECORD) == {found.name for found in BENCH.cells()}
    for name, found in RECORD.items():
        method, storage, _ = name.split("/")
        if "refused" in found:
            assert (method in ("full", "freeze", "pissa") and storage != "none") or name == "pissa/none/reward"
        else:
            assert found["loss_after"] < 0.8 * found["loss_before"], name
            assert found["logit_difference"] <= 1e-4 * found["logit_scale"], name


def test_the_documented_table_is_the_committed_one() -> None:
    text = (ROOT / "docs/methods.md").read_text()
    for line in BENCH.table(RECORD):
        assert line in text
