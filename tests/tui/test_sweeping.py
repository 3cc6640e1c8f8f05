"""A search started from screen 2: nothing varied says so, the bill comes first, and a no starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.api import runs
from engine.runs import launch
from engine.sweep import launch as sweep_launch
from engine.sweep.store import list_sweeps, read_sweep
from tests.tui.conftest import SIZES, deck, screen_text, shows, until
from tui.documents.new import file_form

TEXT = """\
[model]
name_or_path = "demo"
max_length = 128

[[data.datasets]]
path = "demo:dates.train.jsonl"

[data]
validation_path = "demo:dates.test.jsonl"
"""
SPACE = '\n[sweep.space]\n"lora.r, lora.alpha" = [[8, 16], [16, 32]]\n'


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that counts rows takes seconds; it has tests of its own."""
    report = {"report": {"train": {"sequences": 40}, "validation": {"sequences": 4}}}
    monkeypatch.setattr(launch, "run_job", lambda job, on_event: report)


@pytest.mark.parametrize("size", SIZES)
async def test_the_bill_comes_first_and_a_no_starts_nothing(
    size: tuple[int, int], place: Path, cpu_machine: object
) -> None:
    (place / "mine.toml").write_text(TEXT + SPACE)
    app = deck()
    app.deck.form = file_form(place / "mine.toml")
    async with app.run_test(size=size) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "OK" in screen_text(app))
        await pilot.press("w")
        await shows(pilot, "trials", "2 (grid)", "memory", "disk", "start the search")
        await pilot.press("n")
        await until(pilot, lambda: "start the search" not in screen_text(app))
    assert list_sweeps() == []


async def test_a_yes_starts_the_search_and_shows_the_runs(
    place: Path, cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[runs.Run] = []
    monkeypatch.setattr(sweep_launch, "_spawn", started.append)
    (place / "mine.toml").write_text(TEXT + SPACE)
    app = deck()
    app.deck.form = file_form(place / "mine.toml")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "OK" in screen_text(app))
        await pilot.press("w")
        await shows(pilot, "start the search")
        await pilot.press("y")
        await until(pilot, lambda: app.current_mode == "runs")
    (found,) = list_sweeps()
    assert started == [found]
    told: dict[str, Any] = read_sweep(found)
    assert told["cells"] == [{"lora.r": 8, "lora.alpha": 16}, {"lora.r": 16, "lora.alpha": 32}]
    assert (found.path / "profile.toml").read_text() == TEXT + SPACE


async def test_a_profile_that_varies_nothing_says_what_to_do(place: Path, cpu_machine: object) -> None:
    (place / "mine.toml").write_text(TEXT)
    app = deck()
    app.deck.form = file_form(place / "mine.toml")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "OK" in screen_text(app))
        await pilot.press("w")
        said = "nothing is varied: give sweep.space values to try"
        await until(pilot, lambda: any(said in str(notice.message) for notice in app._notifications))
