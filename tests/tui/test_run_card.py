"""The card beside a run: its gauges where there is room, and nothing asked of the driver where there is none."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from engine.api.cards import Loads
from engine.hardware.machine import GpuProcess
from engine.runs.store import create_run
from tests.tui.conftest import GIB, attached, record, screen_text, shows, until, worker_alive
from tests.tui.test_cards import load
from tests.unit.hardware.conftest import FakeNvml, load_recording
from tui.charts.card_history import History
from tui.run import card_pane
from tui.run.card_pane import card_text


def on_card(card: str) -> Any:
    """A run that was planned for `card`."""
    settings = {"name": "bot", "model": {"name_or_path": "m", "dtype": "bf16"}, "launch": {"device": "cuda"}}
    estimate = {"device_bytes": 20 * GIB, "available_bytes": 23 * GIB, "card": card, "device": "RTX 4090"}
    return create_run("bot", {"schema_version": 1, "settings": settings, "estimate": estimate}, "")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The driver of a machine with two cards."""
    fake = FakeNvml(load_recording("mixed"))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(card_pane, "REFRESH_S", 0.05)
    return fake


async def test_the_card_of_a_live_run_is_shown_while_it_lives_and_is_seen(driver: FakeNvml) -> None:
    run = on_card("GPU 1")
    record(run, steps=20)
    app = attached(run)
    with worker_alive(run):
        async with app.run_test(size=(120, 40)) as pilot:
            await shows(pilot, "GPU 1 now", "util   87 %", "heat   61 of 90 °C")
            assert all(cell_len(row) <= 120 for row in screen_text(app).splitlines())
            await pilot.press("4")
            await until(pilot, lambda: app.current_mode == "runs")
            await pilot.press("3")
            await shows(pilot, "GPU 1 now")
            await pilot.resize_terminal(100, 40)
            await until(pilot, lambda: "GPU 1 now" not in screen_text(app))


async def test_a_run_that_has_ended_asks_no_driver(driver: FakeNvml) -> None:
    run = on_card("GPU 1")
    record(run, steps=20, outcome="completed")
    app = attached(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "predicted")
        assert "GPU 1 now" not in screen_text(app)
    assert driver.opened == 0


def test_what_stands_over_the_gauges() -> None:
    history = History()
    assert card_text(history, "GPU 0", 0.0, 8, 44).plain == "GPU 0 does not answer"
    held = (GpuProcess(1, 20 * GIB, "python", "me"), GpuProcess(2, 10 * GIB, "python", "anna"))
    busy = replace(load(40, processes=held), slowed_by=("heat", "power limit"))
    history.add(Loads(100.0, (busy,)))
    lines = card_text(history, "GPU 0", 101.0, 8, 44).plain.splitlines()
    assert lines[:2] == ["GPU 0 now  2 processes, 30.0 GiB", "slowed: heat, power limit"]
    assert len(lines) <= 8
    assert "the driver has not answered for 60 s" in card_text(history, "GPU 0", 160.0, 8, 44).plain
    assert card_text(history, "GPU 1", 101.0, 8, 44).plain == "GPU 1 does not answer"
