"""Screen 5, jobs: an evaluation of another shell is followed, ended by key, and told by its folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from engine.runs.events import EventWriter
from tests.tui.conftest import HOLD, shows, until
from tests.tui.results_of import (
    opened,
    put,
    scored,
    settle,
    told,
    trained,
)
from tui.reading.jobs import JobReader
from tui.results.commands import ResultsState


async def test_an_evaluation_of_another_shell_is_followed_to_its_end(cpu_machine: object) -> None:
    run = settle()
    trained(run)
    place = run.path / "eval"
    put(place / "job.json", {"job": "evaluate"})
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(place / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    writer = EventWriter(place / "events.jsonl")
    writer.write("phase", name="evaluate", detail="answers of tuned")
    writer.write("progress", phase="evaluate", done=25, total=100, unit="answers")
    app = opened(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5")
        await shows(pilot, "evaluating: answers of tuned", "███░░░░░░░░░", "25 of 100 answers", "x end it")
        await pilot.press("v")
        await told(pilot, "an evaluation is under way")
        writer.write("error", code="resources", message="out of memory", hint="evaluate fewer rows")
        writer.write("finished", outcome="failed", exit_code=5)
        await shows(pilot, "→ ending")
        holder.kill()
        holder.wait()
        holder.stdout.close()
        await shows(pilot, "the last evaluation failed: out of memory", "evaluate fewer rows")


async def test_a_job_is_ended_by_key(cpu_machine: object) -> None:
    run = scored()
    place = run.path / "export-job"
    put(place / "job.json", {"job": "export"})
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(place / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    app = opened(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "e")
        await until(pilot, lambda: app.deck.of(ResultsState).exporting)
        await pilot.press("x")
        await until(pilot, lambda: holder.poll() is not None)
    holder.stdout.close()


def test_a_job_is_told_by_its_folder(tmp_path: Path) -> None:
    reader = JobReader(tmp_path)
    assert reader.read().state == ""
    assert reader.read(starting=True).state == "running"
    put(tmp_path / "job.json", {})
    assert reader.read().state == "running"  # young, without lock or event: starting
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write("warning", code="x", message="half of it")
    view = reader.read()
    assert view.state == "lost"
    assert view.warnings == ("half of it",)
    assert "worker.log" in view.error[1]
    writer.write("finished", outcome="completed")
    assert reader.read().state == "completed"
    time.sleep(0.01)
    (tmp_path / "events.jsonl").unlink()
    put(tmp_path / "job.json", {"again": 1})
    assert reader.read() == JobReader(tmp_path).read()
    assert reader.read().warnings == ()
