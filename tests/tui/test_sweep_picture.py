"""A sweep as pictures: every trial stands where its setting and value are; live and planned ones are listed."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from engine.sweep.picture import sweep_picture
from engine.sweep.store import create_sweep
from tests.tui.conftest import SIZES, deck, screen_text, shows
from tests.tui.results_of import put
from tests.tui.test_hostile import NASTY
from tests.tui.test_sweeps import sweep
from tui.runs.sweep_view import chart_lines, picture, trial_lines

RATES = (1e-5, 1e-4, 1e-3)


def grid(values: tuple[float | None, ...] = (0.9, 0.4, None)) -> object:
    """A grid of four over rate and rank: three began, the last of them is under way."""
    cells = [{"train.learning_rate": rate, "lora.r": 8} for rate in RATES] + [
        {"train.learning_rate": 1e-3, "lora.r": 16}
    ]
    keys = ["train.learning_rate", "lora.r"]
    found = create_sweep("rates", {"metric": "eval_loss", "trials": 5, "keys": keys, "cells": cells}, "")
    rows = [
        {"trial": at, "params": cells[at], "state": "completed" if value else "running", "value": value}
        | ({} if value else {"best_eval_loss": 0.6, "step": 5, "steps_total": 20})
        for at, value in enumerate(values)
    ]
    put(found.path / "trials.json", {"v": 1, "trials": rows})
    return found


def test_trials_lie_at_their_setting_and_the_best_leads(place: object) -> None:
    found = sweep_picture(grid())  # type: ignore[arg-type]
    rate, rank = found.charts
    assert [(dot.trial, dot.value, dot.sure, dot.best) for dot in rate.dots] == [
        (1, 0.4, True, True),
        (0, 0.9, True, False),
        (2, 0.6, False, False),
    ]
    places = {dot.trial: dot.place for dot in rate.dots}
    assert [places[at] for at in (0, 1, 2)] == pytest.approx([0.0, 0.5, 1.0])
    assert (rate.best, rank.best) == ("0.0001", "8")
    assert [text for _, text in rank.marks] == ["8", "16"]
    assert [row.state for row in found.rows] == ["completed", "completed", "running", "planned"]
    assert found.undrawn == 1
    lines = [text.plain for text in chart_lines(rate, 36, 9)]
    assert lines[1].index("●") < lines[6].index("◆") < max(line.find("×") for line in lines)
    assert lines[1].split()[0] == "0.9"
    assert lines[6].split()[0] == "0.4"
    told = [text.plain for text in trial_lines(found, 78)]
    assert told[0].split()[:5] == ["◆", "1", "trial", "1", "0.4"]
    assert "5 of 20" in told[2]
    assert "planned" in told[3]
    assert "1 more trial:" in told[4]


def test_odd_sweeps_are_drawn_too(place: object) -> None:
    found = create_sweep("odd", {"metric": NASTY, "trials": "many", "keys": [NASTY, 3], "cells": [1]}, "")
    empty = sweep_picture(found)
    assert picture(empty, 60, 16).plain
    values = (math.nan, True, NASTY, 3)
    put(found.path / "trials.json", {"trials": [{"trial": n, "params": {NASTY: v}} for n, v in enumerate(values)]})
    text = picture(sweep_picture(found), 60, 16).plain
    assert "\x1b" not in text
    assert all(cell_len(line) <= 60 for line in text.splitlines())


@pytest.mark.parametrize("size", [SIZES[0], SIZES[3]])
async def test_a_key_shows_the_charts_of_a_sweep(size: tuple[int, int], cpu_machine: object) -> None:
    sweep()
    app = deck()
    async with app.run_test(size=size) as pilot:
        await pilot.press("4")
        await shows(pilot, "▸ rates-")
        await pilot.press("p")
        await shows(pilot, "◆", "2 of 4 trials ended", "lora.r  best 8", "◆ best")
        assert all(cell_len(line) <= size[0] for line in screen_text(app).splitlines())
        await pilot.press("end")
        await shows(pilot, "1 more trial")
        await pilot.press("escape")
        await shows(pilot, "▸ rates-")
