"""`m` and `M` on the fit screen: what runs measured here, read and forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.conftest import deck, shows, until
from tests.unit.memory.test_calibration import MACHINE
from tests.unit.memory.test_measured_here import kept as kept


async def test_measurements_are_read_and_forgotten(
    kept: Path, cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "> demo")
        app.deck.machine = MACHINE
        await pilot.press("m")
        await shows(pilot, "Measured on this machine", "tokens/s 50 of 100")
        await pilot.press("escape", "M")
        await shows(pilot, "Forget 3 measurements")
        await pilot.press("enter")
        assert list((kept / "tunedeck" / "calibration").glob("*.json"))
        await pilot.press("y")
        await until(pilot, lambda: not list((kept / "tunedeck" / "calibration").glob("*.json")))
        app.deck.machine = MACHINE
        await pilot.press("m")
        await shows(pilot, "nothing was measured here yet")
