"""Tests of Triton kernels: they run in a process of their own (../test_liger.py) and are collected nowhere else."""

from __future__ import annotations

from tests import triton_on_cpu

if triton_on_cpu.interprets() and not triton_on_cpu.LACKING:
    triton_on_cpu.repair()
else:
    collect_ignore_glob = ["*.py"]
