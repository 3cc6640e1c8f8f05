"""Starts the tests of Triton kernels in a process whose Triton interprets them, without a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.modeling import liger
from tests import triton_on_cpu

INTERPRETED = Path(__file__).parent / "interpreted"


@pytest.mark.slow
@pytest.mark.skipif(bool(triton_on_cpu.LACKING), reason=f"{triton_on_cpu.LACKING} not installed")
def test_kernels_compute_what_transformers_does() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INTERPRETED)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]


@pytest.mark.parametrize(
    ("lacking", "gpu", "reason"),
    [
        ({"liger_kernel"}, True, "liger-kernel is not installed (pip install 'tunedeck[kernels]')"),
        ({"triton"}, True, "Triton is not installed"),
        (set(), False, "there is no CUDA GPU"),
        (set(), True, "liger-kernel cannot be loaded: no symbol"),
    ],
)
def test_the_reason_why_kernels_cannot_run_is_a_sentence(
    lacking: set[str], gpu: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ImportError("no symbol\nTraceback")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(liger, "_ops", fail)
    assert liger.missing_reason() == reason
    monkeypatch.setattr(liger, "_ops", lambda: None)
    assert bool(liger.missing_reason()) == bool(lacking or not gpu)
