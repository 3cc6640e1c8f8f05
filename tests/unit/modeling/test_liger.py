"""Starts the tests of Triton kernels in a process whose Triton interprets them, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
