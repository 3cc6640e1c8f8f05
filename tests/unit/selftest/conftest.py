"""A finished self-test of a processor, made of findings that are written down here."""

from __future__ import annotations

import pytest

from engine.hardware.machine import Cpu, Machine
from engine.memory.shape import GIB
from engine.selftest.checks import PASSED, SKIPPED, Finding, Step, place_of
from engine.selftest.plan import SelftestPlan
from engine.selftest.record import ENDED, Record, StepRecord
from engine.selftest.run import NO_TIME


@pytest.fixture
def machine():
    return Machine(
        hostname="annas-tower.example.org",
        cpu=Cpu("AMD EPYC 9655", 8, 16, bf16_native=True, features=("avx512_bf16",)),
        ram_total_bytes=64 * GIB,
        ram_available_bytes=48 * GIB,
        disk_path="/home/anna-example/.local/state/tunedeck",
        disk_free_bytes=100 * GIB,
        torch_version="2.13.0+cpu",
        notes=("no NVIDIA driver was found",),
    )


@pytest.fixture
def record(machine, tmp_path):
    """`record(memory=FAILED)`: that step's last check ended so."""

    def make(state=ENDED, **ended):
        findings = {
            "machine": [Finding("torch sees the device", PASSED, "torch 2.13.0+cpu, 8 threads")],
            "kernels": [
                Finding("packed documents, llama, fp32", PASSED, "error 4.9e-07, tolerance 0.0001"),
                Finding("checkpointing of every second layer, gemma3_text, bf16", PASSED, "error 0, tolerance 0.03"),
            ],
            "memory": [
                Finding(
                    "llama-3.2-1b lora bf16, 4 x 1024, every layer recomputed",
                    PASSED,
                    "allocated 3.6 GiB (-0.4 %), reserved 3.9 GiB (+1.2 %), device 4.6 GiB (-1.1 %)",
                ),
            ],
            "settings": [
                Finding("the recommended setting is the fastest of these", SKIPPED, "fewer than two settings"),
                Finding("demo lora", SKIPPED, NO_TIME),
            ],
        }
        for name, status in ended.items():
            last = findings[name][-1]
            findings[name][-1] = Finding(last.name, status, last.text, last.figures)
        steps = [StepRecord(Step(name, name.capitalize(), (), 1.0), found, 12.0) for name, found in findings.items()]
        plan = SelftestPlan(place_of(machine, "cpu"), 3.0, tuple(step.step for step in steps))
        return Record(plan, tmp_path / "record.json", "2026-11-27 12:00 UTC", steps, state)

    return make
