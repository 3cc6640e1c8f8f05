"""The page at 80 columns, word for word, and within narrower ones."""

from __future__ import annotations

import pytest

from engine.errors import ExitCode
from engine.selftest.checks import FAILED, PASSED, SKIPPED
from engine.selftest.page import result_lines, verdict_lines
from engine.selftest.record import STOPPED, exit_code, to_json

PAGE = """\
Device   AMD EPYC 9655, 8 cores, 48.0 GiB of memory free
With     torch 2.13.0+cpu, 100.0 GiB of disk free, 2026-11-27 12:00 UTC
Note     no NVIDIA driver was found

Machine (12 s)
  ok     torch sees the device: torch 2.13.0+cpu, 8 threads

Kernels (12 s)
  ok     packed documents, llama, fp32: error 4.9e-07, tolerance 0.0001
  ok     checkpointing of every second layer, gemma3_text, bf16: error 0,
         tolerance 0.03

Memory (12 s)
  ok     llama-3.2-1b lora bf16, 4 x 1024, every layer recomputed: allocated 3.6
         GiB (-0.4 %), reserved 3.9 GiB (+1.2 %), device 4.6 GiB (-1.1 %)

Settings (12 s)
  -      the recommended setting is the fastest of these: fewer than two
         settings
  -      1 more left out for want of time

all 4 checks passed; 2 left out."""


def test_the_page_at_80_columns(record):
    assert "\n".join(result_lines(record(), 80)) == PAGE


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_line_is_wider_than_the_terminal(record, columns):
    lines = list(result_lines(record(memory=FAILED, kernels=FAILED), columns))
    assert max(len(line) for line in lines) <= columns


def test_what_failed_is_named_at_the_end_with_what_to_do(record):
    text = " ".join("\n".join(result_lines(record(kernels=FAILED), 100)).split())
    assert "FAILED checkpointing of every second layer" in text
    assert "1 of 4 checks failed; 2 left out: checkpointing of every second layer, gemma3_text, bf16: this" in text
    assert text.endswith("update the driver and torch, and report it with --report.")


@pytest.mark.parametrize(("ended", "said"), [(PASSED, "passed"), (FAILED, "failed")])
def test_one_check_is_not_called_several(record, ended, said):
    made = record(machine=ended, kernels=SKIPPED, memory=SKIPPED)
    made.steps[1].findings.pop(0)
    assert " ".join(verdict_lines(made, 80)).startswith(f"the one check that ran {said}; 4 left out")


def test_a_check_cannot_write_to_the_terminal(record):
    made = record()
    bad = made.steps[0].findings[0]
    made.steps[0].findings[0] = type(bad)(bad.name, FAILED, "\x1b[2J\nowned")
    text = "\n".join(result_lines(made, 80))
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ({}, ExitCode.OK),
        ({"memory": FAILED}, ExitCode.RESOURCES),
        ({"kernels": FAILED}, ExitCode.ENVIRONMENT),
        ({"memory": FAILED, "machine": FAILED}, ExitCode.ENVIRONMENT),
        ({"state": STOPPED, "kernels": FAILED}, ExitCode.INTERRUPTED),
    ],
)
def test_the_exit_code_follows_from_what_failed(record, ended, code):
    made = record(**ended)
    assert exit_code(made) == code
    assert to_json(made)["exit_code"] == code
    assert to_json(made)["counts"]["failed"] == len([name for name in ended if name != "state"])
