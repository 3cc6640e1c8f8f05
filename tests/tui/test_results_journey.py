"""From a finished run to its export by keys, with the real workers and the built-in model."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine.api import runs
from tests.process.conftest import FAST
from tests.tui.conftest import deck, screen_text, shows, until

WORK_S = 90.0


def train(place: Path) -> runs.Run:
    """A run of the built-in model, in seconds."""
    (place / "dates.toml").write_text(FAST.replace("max_steps = 6", "max_steps = 2").replace("eval_steps = 3", ""))
    command = [sys.executable, "-m", "engine", "train", "dates.toml"]
    subprocess.run(command, cwd=place, capture_output=True, check=True, timeout=WORK_S)
    return runs.find_run("last")


def workers() -> list[int]:
    """Workers that this process started and that live."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and "engine.worker" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


@pytest.mark.usefixtures("warm_workers")
async def test_runs_results_evaluate_samples_export_chat(place: Path, cpu_machine: object) -> None:
    run = train(place)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "> dates-", "completed")
        await pilot.press("5", "v")
        await until(pilot, lambda: "samples  4 of 4" in screen_text(app), WORK_S)
        text = screen_text(app)
        for word in ("too few rows to tell, 4 of 6 held-out rows", "loss per token", "95 % interval", "wanted"):
            assert word in text
        assert (run.path / "eval" / "report.json").is_file()

        await pilot.press("e", *["down"] * 8, "space", "w")
        await until(pilot, lambda: "written to" in screen_text(app), WORK_S)
        await shows(pilot, "[x] gguf q8_0", "largest diff", "--gguf q8_0")
        assert list((run.path / "export" / "gguf").glob("*-q8_0.gguf"))

        await pilot.press("c")
        await until(pilot, lambda: "  ready" in screen_text(app), WORK_S)
        await pilot.press(*"ISO date for 3 May 1999", "enter")
        await until(pilot, lambda: " a second" in screen_text(app), WORK_S)
        assert len(workers()) == 1
    over = time.monotonic() + 20
    while workers():
        assert time.monotonic() < over, "the chat's worker outlives the deck"
        time.sleep(0.1)
