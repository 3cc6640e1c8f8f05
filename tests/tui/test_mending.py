"""A run that failed: remedies stand on its screen, one key does the first, and nothing that was learned is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from engine.api import profiles
from engine.hardware.machine import Machine
from engine.resolve.remedies import Remedy
from engine.runs.events import EventWriter
from engine.runs.store import Run, create_run
from tests.tui.conftest import HOLD, attached, record, screen_text, shows, until
from tui.documents import document
from tui.documents.new import demo_form
from tui.run.commands import RemediesState
from tui.run.view import remedy_choices
from tui.widgets.dialogs import Pick


def demo_run(machine: Machine) -> Run:
    """A run of the demo that trained ten steps and saved a checkpoint."""
    form = demo_form()
    resolved = profiles.resolve_profile(document.loaded(form.base_text, form.path), machine)
    run = create_run("demo", resolved.to_run_json(), form.base_text)
    record(run, 10, 20)
    folder = run.path / "checkpoints" / "step-10"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return run


def fail(run: Run, code: str, message: str, **more: Any) -> None:
    writer = EventWriter(run.events_path)
    writer.write("calibration", stage="out_of_memory", device="cpu", measured={"limit_bytes": 10**12}, kept=False)
    writer.write("error", code=code, message=message, **more)
    writer.write("finished", outcome="failed", step=10, exit_code=5)
    writer.close()


async def test_out_of_memory_is_mended_by_one_key(cpu_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    run = demo_run(cpu_machine)
    fail(run, "resources", "out of memory: not enough", cause="out_of_memory", hint="checkpointing on: 710 MiB OK")
    resumed: list[dict[str, Any]] = []

    def resume(found: Run, **given: Any) -> subprocess.Popen[bytes]:
        resumed.append(given)
        EventWriter(found.events_path).write("started", run=found.id, steps_total=20, resumed_from_step=10)
        EventWriter(found.events_path).write("train_step", step=11, steps_total=20, loss=0.9)
        return subprocess.Popen([sys.executable, "-c", HOLD, str(found.lock_path)], stdout=subprocess.DEVNULL)

    monkeypatch.setattr("engine.resolve.remedies.resume_run", resume)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "the run failed", "out of memory", "remedies", "m checkpointing on", "goes on", "m remedy")
        await pilot.press("m")
        await shows(pilot, "step 11 of 20")
        assert "the run failed" not in screen_text(app)
        (given,) = resumed
        assert given["run_json"]["settings"]["train"]["activation_checkpointing"] is True
        await until(pilot, lambda: app.deck.process is not None)  # events are read before the starting thread ends
        assert app.deck.process is not None
        app.deck.process.kill()
        app.deck.process.wait()


async def test_a_loss_that_is_no_number_starts_another_run(
    cpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = demo_run(cpu_machine)
    fail(run, "diverged", "loss is not a finite number at step 11")

    def start(name: str, run_json: dict[str, Any], text: str) -> tuple[Run, subprocess.Popen[bytes]]:
        made = create_run(name, run_json, text)
        record(made, 3, 20)
        return made, subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])

    monkeypatch.setattr("engine.resolve.remedies.start_run", start)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "not a finite number", "learning rate 0.00067, a third", "new run")
        await pilot.press("M")
        await shows(pilot, "Go on with", "a tenth")
        await pilot.press("end", "enter")
        await shows(pilot, "step 3 of 20")
        assert app.deck.run is not None
        assert app.deck.run.id != run.id
        settings = json.loads((app.deck.run.path / "run.json").read_text())["settings"]
        assert settings["train"]["learning_rate"] == pytest.approx(0.0002)
        assert app.deck.process is not None
        app.deck.process.kill()
        app.deck.process.wait()


async def test_data_trouble_offers_no_remedy(cpu_machine: Machine) -> None:
    run = demo_run(cpu_machine)
    fail(run, "data", "train.jsonl: row 3 has no answer")
    app = attached(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "row 3 has no answer")
        await until(pilot, lambda: app.deck.of(RemediesState).remedies is not None)
        assert "remedies" not in screen_text(app)
        await pilot.press("m")
        await until(pilot, lambda: any("none is known" in str(notice.message) for notice in app._notifications))


async def test_a_resumed_run_that_fails_again_is_kept(cpu_machine: Machine) -> None:
    run = demo_run(cpu_machine)
    fail(run, "resources", "out of memory: not enough", cause="out_of_memory")
    offset = run.events_path.stat().st_size
    dying = (
        "import sys; from pathlib import Path; from engine.runs.events import EventWriter; "
        "w = EventWriter(Path(sys.argv[1])); "
        "w.write('error', code='data', message='the data are gone'); "
        "w.write('finished', outcome='failed', exit_code=3)"
    )
    process = subprocess.Popen([sys.executable, "-c", dying, str(run.events_path)])
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        app.attach(run, process, offset)
        await shows(pilot, "the data are gone")
        await pilot.pause(0.3)
        assert (run.path / "checkpoints" / "step-10").is_dir()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_choices_of_remedies_break_nowhere_but_between_change_and_cost(width: int) -> None:
    changes = ["checkpointing on", "checkpointing on, micro-batch 1 × 16, max_length 1,024", "nothing changed"]
    items = [Remedy(label, {}, True, 5 * 2**30, 0.72) for label in changes]
    for chosen in (items, items[:1]):
        for item, shown in zip(chosen, remedy_choices(chosen, Pick.wide_room(width)), strict=True):
            first, *second = shown.plain.splitlines()
            assert first.startswith(item.label)
            assert (second or [first])[0].split()[-5:] == ["0.72", "×", "speed", "goes", "on"]
            assert "5.0 GiB" in (second or [first])[0]
            assert width < 80 or all(len(each) <= Pick.wide_room(width) for each in shown.plain.splitlines())
