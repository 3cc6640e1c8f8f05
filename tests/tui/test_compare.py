"""Runs beside each other: curves told apart by letters, numbers, settings with where they came from."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from engine.runs.store import Run
from tests.tui.conftest import SIZES, deck, screen_text, shows, until
from tests.tui.golden import same_as
from tests.tui.results_of import SETTINGS, put, report, settle, trained
from tests.tui.test_hostile import NASTY, check
from tui.charts.overlay import Series, draw_overlay
from tui.runs.commands import Selection
from tui.runs.comparing import Comparer, best_of, differing


def provenance(rate: float, rank: int, source: str = "profile") -> dict[str, Any]:
    """Where a few settings came from."""
    return {
        "name": {"value": f"run-{rank}", "source": "profile"},
        "model.name_or_path": {"value": "demo", "source": "profile"},
        "lora.r": {"value": rank, "source": source},
        "train.learning_rate": {"value": rate, "source": "override"},
        "train.per_device_train_batch_size": {"value": 8, "source": "auto"},
    }


def pair() -> list[Run]:
    """Two runs that differ in rate and rank."""
    one = settle("20260301-101112-slow-1f3a", provenance=provenance(1e-4, 8))
    other = settle("20260301-111112-fast-2b4c", provenance=provenance(1e-3, 16, "override"))
    trained(one, rate=80.0)
    trained(other, rate=15.0)
    put(other.path / "eval" / "report.json", report())
    return [other, one]


@pytest.mark.parametrize("size", SIZES)
async def test_marked_runs_are_compared_at_every_size(size: tuple[int, int], cpu_machine: object) -> None:
    pair()
    app = deck()
    async with app.run_test(size=size) as pilot:
        await pilot.press("4")
        await shows(pilot, "fast-2b4c", "slow-1f3a")
        await pilot.press("space", "space")
        await shows(pilot, "A  fast-2b4c", "B> slow-1f3a")
        await pilot.press("c")
        await shows(pilot, "A fast-2b4c  B slow-1f3a", "loss", "┤")
        text = screen_text(app)
        assert all(cell_len(line) <= size[0] for line in text.splitlines())
        same_as(f"compare-{size[0]}x{size[1]}", text)
        await pilot.press("end")
        await shows(pilot, "lora.r", "settings that differ: 2 of 4", "16 override", "8 profile")


async def test_curves_scales_and_settings_change_by_key(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    runs = pair()
    app = deck()
    app.deck.of(Selection).marked = tuple(runs)
    async with app.run_test(size=(120, 40)) as pilot:
        app.switch_mode("compare")
        await shows(pilot, "verdict", "better", "exact match %, tuned")
        assert "per_device_train" not in screen_text(app)
        await pilot.press("a")
        await shows(pilot, "all 4 settings", "8 auto")
        for name in ("evaluation loss", "learning rate", "gradient norm"):
            await pilot.press("m")
            await shows(pilot, name)
        await shows(pilot, "no run has a curve of its gradient norm")
        await pilot.press("m", "m", "l", "z")
        await shows(pilot, "loss, powers of ten")
        assert "verdict" not in screen_text(app)
        await pilot.press("y")
        text = (runs[0].path / "deck-compare.txt").read_text()
        assert "train.learning_rate" in text
        await pilot.press("escape", "T")
        await shows(pilot, "▸ loss", "  evaluation loss", "  learning rate")
        assert "verdict" not in screen_text(app)
        await pilot.press("down", "enter")
        await shows(pilot, "evaluation loss, powers of ten")
        assert "▸" not in screen_text(app)
        await pilot.press("escape")
        await shows(pilot, "▸ evaluation loss")
        await pilot.press("T")
        await shows(pilot, "verdict")
        await pilot.press("escape")
        await shows(pilot, "4 Runs")


async def test_fewer_than_two_marked_runs_say_so_and_marks_can_go(cpu_machine: object) -> None:
    pair()
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        await shows(pilot, "fast-2b4c")
        await pilot.press("space", "c")
        await until(pilot, lambda: any("1 run marked: mark two" in str(note.message) for note in app._notifications))
        await pilot.press("U", "c")
        await until(pilot, lambda: any("no runs marked" in str(note.message) for note in app._notifications))


def test_numbers_settings_and_the_best_of_them(place: object) -> None:
    runs = Comparer().read(pair())
    assert [one.letter for one in runs] == ["A", "B"]
    assert differing(runs) == ["lora.r", "train.learning_rate"]
    assert runs[0].settings["train.learning_rate"] == ("0.001", "override")
    assert runs[0].numbers["steps"] == "100 of 100"
    assert best_of("best evaluation", runs) == "A"
    assert best_of("tokens per second", runs) == ""  # both are alike
    assert best_of("steps", runs) == ""
    assert "perplexity, tuned" not in runs[1].numbers


def test_curves_are_told_apart_without_colour() -> None:
    series = [
        Series("A", 0, tuple((float(x), 5.0 - x / 30) for x in range(100))),
        Series("B", 1, tuple((float(x), 3.0) for x in range(100))),
    ]
    rows = ["".join(text for text, _ in row) for row in draw_overlay(series, 70, 14)]
    assert len(rows) == 14
    assert all(len(row) <= 70 for row in rows)
    text = "\n".join(rows)
    assert text.count("A") >= 2
    assert text.count("B") >= 2
    styles = {style for row in draw_overlay(series, 70, 14) for piece, style in row if "A" in piece or "B" in piece}
    assert styles == {"bold $accent", "bold $warning"}
    powers = draw_overlay([Series("A", 0, ((1.0, 100.0), (2.0, 0.0), (3.0, 0.01)))], 60, 12, powers=True)
    assert any("0.01" in row[0][0] for row in powers)
    assert draw_overlay([], 70, 14) == []
    assert draw_overlay(series, 10, 14) == []


async def test_hostile_names_and_settings(cpu_machine: object) -> None:
    odd = {NASTY: {"value": NASTY, "source": NASTY}, "lora.r": {"value": [NASTY], "source": "profile"}}
    one = settle("20260301-101112-a-1f3a", settings={**SETTINGS, "name": NASTY}, provenance=odd)
    other = settle("20260301-111112-b-2b4c", provenance={})
    trained(one)
    put(one.path / "eval" / "report.json", {**report(NASTY), "delta": NASTY})
    app = deck()
    app.deck.of(Selection).marked = (one, other)
    async with app.run_test(size=(120, 40)) as pilot:
        app.switch_mode("compare")
        await shows(pilot, "settings that differ: 2 of 2", "[INST]")
        check(app)
