"""A search started from screen 2: nothing varied says so, the bill comes first, and a no starts nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from engine.api import runs
from engine.api.profiles import parse_value, profile_fields, typed_value
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


async def test_a_late_bill_is_told_before_and_takes_no_enter(
    place: Path, cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.profile.starting.LATE_S", 0.0)
    go_on = threading.Event()
    report = {"report": {"train": {"sequences": 40}, "validation": {"sequences": 4}}}

    def count(job: dict[str, Any], on_event: Any) -> dict[str, Any]:
        on_event({"type": "progress", "done": 1200, "total": 3000})
        go_on.wait(20)
        return report

    monkeypatch.setattr(launch, "run_job", count)
    (place / "mine.toml").write_text(TEXT + SPACE)
    app = deck()
    app.deck.form = file_form(place / "mine.toml")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "OK" in screen_text(app))
        await pilot.press("w")
        await shows(pilot, "counting the data: 1,200 of 3,000 rows … ")
        await pilot.press("1")
        await shows(pilot, "> demo")
        go_on.set()
        await until(pilot, lambda: any("it is asked on screen 2" in str(one.message) for one in app._notifications))
        assert "start the search" not in screen_text(app)
        await pilot.press("2")
        await shows(pilot, "y start the search", "2 (grid)")
        await pilot.press("enter")
        assert "start the search" in screen_text(app)
        await pilot.press("n")
        await until(pilot, lambda: "OK" in screen_text(app))
    assert list_sweeps() == []


def test_a_space_is_typed_as_for_the_shell() -> None:
    (space,) = [spec for spec in profile_fields() if spec.key == "sweep.space"]
    typed = typed_value(space, "lora.r=8,16 train.learning_rate=1e-5..1e-3:log")
    assert typed == {"lora.r": [8, 16], "train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}
    assert typed_value(space, "{ lora.r = [8, 16] }") == parse_value(space, "{ lora.r = [8, 16] }")
    with pytest.raises(ValueError, match=r"lora.r=8,16,32"):
        typed_value(space, "lora.r")


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
