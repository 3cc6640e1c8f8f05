"""Rows by length in the data pane: the line moves by keys and mouse, and its value becomes an edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.api import runs
from engine.api.profiles import AtLength, LengthChoices
from engine.hardware.machine import Machine
from tests.tui.conftest import SIZES, screen_text, shows, until
from tests.tui.test_data_pane import PREVIEW, REPORT, opened
from tui.profile.lengths_pane import LengthsPane
from tui.profile.lengths_view import facts_lines, histogram_lines, index_at, line_column, picture
from tui.profile.screen import ProfileScreen

GRID = (16, 24, 32, 48, 64, 96, 128, 192, 256)
COUNTS = (0, 1, 5, 40, 100, 30, 4, 0, 2)
FOUND = LengthChoices(
    128,
    200,
    10_000,
    True,
    tuple(zip(GRID, COUNTS, strict=True)),
    tuple(AtLength(at, 182, max(0, 250 - at), 3, 10 * (256 - at), 9000 // at, 8000) for at in GRID),
)
CLEAN: dict[str, Any] = {**REPORT, "warnings": [], "datasets": []}


def test_every_column_is_on_the_side_of_the_line_where_its_rows_are() -> None:
    for width in (5, 10, 40, 90):
        shown = picture(FOUND, width)
        assert len(shown.bounds) < width
        for index, at in enumerate(FOUND.at):
            lines = histogram_lines(FOUND, index, width, 4)
            column = line_column(shown, at.max_length)
            assert {text.plain.index("│") for text in lines[:-1]} == {column}
            assert all(bound <= at.max_length for bound in shown.bounds[:column])
            assert all(bound > at.max_length for bound in shown.bounds[column:])
            if width > len(GRID):
                assert FOUND.at[index_at(FOUND, width, column)] == at
    lines = [text.plain for text in histogram_lines(FOUND, 6, 90, 4)]
    assert lines[0].count("█") == 9
    assert lines[-1].split() == ["16", "32", "64", "128", "256"]


@pytest.mark.parametrize("width", [58, 78, 198])
def test_the_facts_are_said_within_the_width(width: int) -> None:
    lines = [text.plain for text in facts_lines(FOUND, 4, width, 3)]
    assert all(len(text) <= width for text in lines)
    told = " ".join(lines)
    for fact in ("max_length 64 (now 128)", "186 of 185 rows cut, 3 dropped", "1,920 tokens lost (19.2%)"):
        assert fact in told
    assert "packed into 140 sequences" in told


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The jobs that workers would be started with; they find what is above."""
    jobs: list[dict[str, Any]] = []

    def run_job(job: dict[str, Any], told: Any, **_: Any) -> dict[str, Any]:
        jobs.append(job)
        if job["job"] == "data_preview":
            return {**PREVIEW, "problems": [], "documents": [] if job["words"] == "zebra" else PREVIEW["documents"]}
        told({"type": "preview", **PREVIEW})
        return {"report": CLEAN, "lengths": FOUND.to_dict()}

    monkeypatch.setattr(runs, "run_job", run_job)
    return jobs


@pytest.mark.parametrize("size", [SIZES[0], SIZES[3]])
async def test_the_line_moves_and_its_length_becomes_an_edit(
    size: tuple[int, int], place: Path, cpu_machine: Machine, asked: list[dict[str, Any]]
) -> None:
    app = opened(place, [{"prompt": "a", "completion": "b"}])
    async with app.run_test(size=size) as pilot:
        await pilot.press("2")
        await shows(pilot, "mine.toml", "OK")
        await pilot.press("d")
        await shows(pilot, "max_length 128", "7 rows to train on", "│", "←→ length")
        await pilot.press("left", "left")
        await shows(pilot, "max_length 64 (now 128)", "186 of 185 rows cut", "sequences")
        await pilot.press("left_square_bracket", "right")
        await shows(pilot, "max_length 48 (now 128)")
        pane = app.screen.query_one(LengthsPane)
        await pilot.click(pane, offset=(pane.region.width - 2, 4))
        await shows(pilot, "max_length 256 (now 128)")
        await pilot.press("left", "enter")
        screen = app.screen
        assert isinstance(screen, ProfileScreen)
        form = screen.form_pane.form
        assert form is not None
        assert form.edits == {"model.max_length": 192}
        await shows(pilot, "192")
        await pilot.press("u")
        assert form.edits == {}
        await pilot.press("d")
        await shows(pilot, "max_length 128")
        await pilot.press("left", "escape")
        assert form.edits == {}


async def test_rows_are_found_by_number_and_by_words(
    place: Path, cpu_machine: Machine, asked: list[dict[str, Any]]
) -> None:
    app = opened(place, [{"prompt": "a", "completion": "b"}])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await shows(pilot, "mine.toml", "OK")
        await pilot.press("d")
        await shows(pilot, "7 rows to train on")
        await pilot.press("g", "x", "enter")
        await shows(pilot, "give the number of a row")
        await pilot.press("ctrl+u", *"120", "enter")
        await shows(pilot, "from row 120")
        await pilot.press("slash", *"refund", "enter")
        await shows(pilot, "with 'refund'", "n next found")
        await pilot.press("n")
        await until(pilot, lambda: len(asked) == 4)
        wanted = [(job.get("first_row"), job.get("words")) for job in asked]
        assert wanted == [(None, None), (120, ""), (1, "refund"), (2, "refund")]
        await pilot.press("slash", "ctrl+u", *"zebra", "enter")
        await shows(pilot, "no such row", "no row with 'zebra'")
        assert "7 rows" not in screen_text(app)
