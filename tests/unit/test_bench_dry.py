"""The dry run of CUDA branches: what counts as wrong, its table, and, where torch has CUDA compiled in, one branch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import cuda_dry
from bench.dry import card

ROOT = Path(__file__).resolve().parents[2]


def row(branch="attention: packed", dtype="bf16", number="9.0", **found):
    return {"branch": branch, "dtype": dtype, "card": number, **found}


def test_a_failure_and_squares_of_scores_are_wrong_unless_a_limit_says_why():
    assert not cuda_dry.is_wrong(row(kernels=["flash"]))
    assert cuda_dry.is_wrong(row(error="RuntimeError: no"))
    assert cuda_dry.is_wrong(row(kernels=["squares"]))
    assert cuda_dry.is_wrong(row("attention: soft cap", kernels=["squares"]))
    assert not cuda_dry.is_wrong(row("attention: soft cap without flex, window", kernels=["squares"]))
    limit = cuda_dry.Limit("attention", "known", cards=("7.5",), dtypes=("bf16",))
    assert limit.covers(row(number="7.5"))
    assert not limit.covers(row(number="8.0"))
    assert not limit.covers(row(number="7.5", dtype="fp16"))


def test_the_table_has_a_column_for_each_card_and_names_what_is_wrong():
    rows = [row(kernels=["flash"]), row(number="7.5", error="RuntimeError: a|b")]
    head, _, line = cuda_dry.table(rows)
    assert head == "| branch | dtype | sm 9.0 | sm 7.5 |"
    assert line == "| attention: packed | bf16 | flash | WRONG: RuntimeError: a/b |"


def test_a_limit_that_no_longer_holds_does_not_hide_a_kernel():
    assert cuda_dry.told(row("attention: soft cap without flex", kernels=["flex"])) == "flex"
    assert "expected:" in cuda_dry.told(row("attention: soft cap without flex", kernels=["squares"]))


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="needs a torch built with CUDA")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a real card shows more")
def test_torch_finds_the_card_and_chooses_its_kernels(tmp_path):
    script = (
        "import json, torch\nfrom bench.dry.branches import ATTENTION, run_attention\n"
        "print(json.dumps([torch.cuda.get_device_capability(), run_attention(ATTENTION[0], torch.bfloat16)]))"
    )
    found = {}
    for number in ("7.5", "8.0"):
        variables = card.environment(card.build(tmp_path), number) | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
        found[number] = json.loads(done.stdout.splitlines()[-1])
    assert found == {"7.5": [[7, 5], ["efficient"]], "8.0": [[8, 0], ["flash"]]}
