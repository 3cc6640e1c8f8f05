"""A deck in a folder of its own: fixed machine, recorded runs, the screen as text."""

from __future__ import annotations

import asyncio
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual._context import active_app
from textual._wait import wait_for_idle
from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot

from engine.api import fit, runs
from engine.hardware.machine import Cpu, Gpu, GpuProcess, Machine
from engine.runs.events import EventWriter
from engine.runs.store import Run, create_run
from tui.app import AttachedDeckApp, DeckApp
from tui.terminal.typeahead import _nodes, _rests

GIB = 1024**3
POLL_S, REST_TURNS = 0.001, 5
SIZES = [(60, 16), (80, 24), (120, 40), (200, 50)]

CPU_MACHINE = Machine(
    hostname="desk",
    cpu=Cpu("Some CPU", 8, 16, bf16_native=True),
    ram_total_bytes=64 * GIB,
    ram_available_bytes=48 * GIB,
    disk_path="/",
    disk_free_bytes=100 * GIB,
    notes=("no NVIDIA driver was found",),
)
GPU_MACHINE = Machine(
    hostname="gpu-box-7",
    cpu=Cpu("Some CPU", 32, 64),
    ram_total_bytes=256 * GIB,
    ram_available_bytes=200 * GIB,
    disk_path="/",
    disk_free_bytes=500 * GIB,
    driver_version="580.95",
    gpus=tuple(
        Gpu(
            name="NVIDIA A100-SXM4-80GB",
            uuid=f"GPU-{index}",
            index=index,
            total_bytes=80 * GIB,
            free_bytes=free * GIB,
            used_bytes=(80 - free) * GIB,
            compute_capability=(8, 0),
            multiprocessors=108,
            memory_bandwidth_bytes_s=2.0e12,
            tensor_flops=3.12e14,
            power_w=92.0,
            temperature_c=38,
            utilization_percent=5,
            processes=(GpuProcess(4711, 20 * GIB, "python", "anna"),) if index == 0 else (),
        )
        for index, free in ((0, 58), (1, 79))
    ),
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and state and settings that vanish after the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def profile(place: Path, cpu_machine: Machine) -> Path:
    """A profile on disk, with its data."""
    from tests.tui.small_profile import put_profile

    return put_profile(place)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What runs would be started with; none is."""
    found: list[dict[str, Any]] = []

    def start(name: str, run_json: dict[str, Any], text: str) -> tuple[Any, subprocess.Popen[bytes]]:
        found.append(run_json)
        return create_run(name, run_json, text), subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(runs, "start_run", start)
    return found


@pytest.fixture(scope="session", autouse=True)
def sheets_parsed_once() -> Iterator[None]:
    """Every app parses the same style sheets; for the same colours, the rules of the first one serve all."""
    parsed: dict[Any, Any] = {}
    parse = Stylesheet._parse_rules

    def parse_once(sheet: Stylesheet, *asked: Any, **named: Any) -> Any:
        key = (asked, frozenset(named.items()), frozenset(sheet._variables.items()))
        if key not in parsed:
            parsed[key] = parse(sheet, *asked, **named)
        return parsed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", parse_once)
        patch.setattr(RuleSet, "__hash__", object.__hash__)  # the same without a call of Python's, a million times
        yield


@pytest.fixture(autouse=True)
async def eager_tasks() -> None:
    """Tasks begin at once, as Textual has it for an app that a person runs, but not for `run_test`."""
    if sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)


@pytest.fixture(autouse=True)
def keys_go_on_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the pilot has had its effect when the deck is at rest; Textual would wait for 40 ms more."""
    monkeypatch.setattr("textual.app.wait_for_idle", at_rest)
    monkeypatch.setattr("textual.pilot.wait_for_idle", at_rest)


@pytest.fixture(autouse=True)
def made_at_the_first_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    """No screen is made ahead, as for a person who is quick; `test_warm` has them made."""
    monkeypatch.setattr("tui.warm.AFTER_S", 3600.0)


@pytest.fixture(autouse=True)
def slow_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    """ctrl+c and ctrl+q drop no keys typed before them where the machine, not the deck, keeps them waiting."""
    monkeypatch.setattr("tui.terminal.typeahead.URGENT_S", 8.0)


@pytest.fixture
def cpu_machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The deck finds a machine without GPU."""
    monkeypatch.setattr(fit, "probe_machine", lambda **_: CPU_MACHINE)
    return CPU_MACHINE


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The deck finds two A100, one in use."""
    monkeypatch.setattr(fit, "probe_machine", lambda **_: GPU_MACHINE)
    return GPU_MACHINE


def screen_text(app: App[Any]) -> str:
    """What stands on the screen."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def at_rest(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Let the app work until nothing is on its way: no message, layout or callback; of what threads do, as Textual."""
    began, app, turns = time.monotonic(), active_app.get(), 0
    while turns < REST_TURNS and time.monotonic() - began < max_sleep:
        await asyncio.sleep(POLL_S)
        turns = turns + 1 if _quiet(app) else 0
    if any(not worker.is_finished for worker in app.workers):
        await wait_for_idle(min_sleep, max_sleep)
    await asyncio.sleep(max(0.0, began + min_sleep - time.monotonic()))


def _quiet(app: App[Any]) -> bool:
    if not app.is_running or not app.screen_stack or app._exit:
        return True
    waiting = ("_layout_required", "_scroll_required", "_repaint_required", "_dirty_widgets", "_callbacks")
    if any(getattr(app.screen, name, False) for name in waiting) or not getattr(app.screen, "ready", True):
        return False
    typed_ahead = getattr(app, "_typed_ahead", None)
    if typed_ahead is not None and typed_ahead._task is not None:
        return False
    return _rests(app) and all(_rests(node) for node in _nodes(app))


async def until(pilot: Pilot[Any], condition: Callable[[], Any], timeout_s: float = 25.0) -> None:
    """Let the app work until `condition`; fails with the screen's text."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        await pilot.pause()
        if condition():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"waited in vain; the screen shows\n{screen_text(pilot.app)}")


async def shows(pilot: Pilot[Any], *texts: str) -> None:
    """Wait until all of `texts` stand on the screen."""
    await until(pilot, lambda: all(text in screen_text(pilot.app) for text in texts))


def deck() -> DeckApp:
    """A deck as `tunedeck` opens it."""
    return DeckApp()


def attached(run: Run) -> AttachedDeckApp:
    """A deck as `tunedeck RUN` opens it."""
    from tui.frame.options import Options

    return AttachedDeckApp(Options(refresh_s=0.5), run)


def make_run(name: str = "support-bot", settings: dict[str, Any] | None = None) -> Run:
    """An empty run directory with plausible settings."""
    chosen = settings or {
        "name": name,
        "model": {"name_or_path": "meta-llama/Llama-3.1-8B", "dtype": "bf16"},
        "tuning": {"method": "lora"},
        "quantization": {"method": "none"},
        "launch": {"device": "cuda"},
    }
    estimate = {"device_bytes": 38 * GIB, "available_bytes": 79 * GIB}
    return create_run(name, {"schema_version": 1, "settings": chosen, "estimate": estimate}, "")


def record(run: Run, steps: int = 200, total: int = 400, outcome: str = "") -> None:
    """Write a training's events, as the worker would."""
    writer = EventWriter(run.events_path)
    noise = random.Random(7)
    writer.write("phase", name="load", detail="weights")
    writer.write("progress", phase="load", done=120, total=340, unit="tensors")
    writer.write("started", run=run.id, pid=1, device="GPU 1", steps_total=total)
    for step in range(1, steps + 1):
        loss = 1.1 + 1.4 * math.exp(-step / 60) + noise.gauss(0, 0.05)
        writer.write(
            "train_step",
            step=step,
            steps_total=total,
            epoch=step / 100,
            loss=loss,
            learning_rate=2e-4 * (1 - step / total),
            grad_norm=0.4,
            tokens_per_second=7200 + noise.gauss(0, 50),
            eta_s=(total - step) * 2.0,
        )
        if step % 50 == 0:
            writer.write("eval", step=step, loss=loss + 0.05, best=True)
            writer.write("checkpoint", step=step, bytes=161 * 2**20, reason="schedule")
    writer.write(
        "memory",
        device_used_bytes=41 * GIB,
        device_total_bytes=80 * GIB,
        process_bytes=40 * GIB,
        peak_allocated_bytes=37 * GIB,
        peak_reserved_bytes=39 * GIB,
        temperature_c=61,
    )
    if outcome:
        writer.write("finished", outcome=outcome, step=steps, exit_code=0, seconds=4400)
    writer.close()


HOLD = """
import sys, time
from pathlib import Path
from engine.runs.lock import acquire
kept = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def worker_alive(run: Run) -> Iterator[None]:
    """Another process holds the run's lock, as its worker would."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.lock_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
