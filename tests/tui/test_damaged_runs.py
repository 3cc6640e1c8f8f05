"""Whatever lies in the state directory, the deck opens and says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.api import runs as runs_api
from engine.errors import EngineError
from engine.runs.health import HealthFold
from tests.tui.conftest import deck, make_run, record, screen_text, shows
from tui.reading.snapshot import short_name
from tui.runs.listing import RunList
from tui.text import middle

WRONG = ['"x"', "1e400", "-1e400", "NaN", "[]", "{}", "true", "null", "-1e300", "9" * 5000]
TYPES = {
    "started": ("steps_total", "resumed_from_step", "device"),
    "train_step": ("step", "steps_total", "loss", "grad_norm", "tokens_per_second", "eta_s"),
    "eval": ("step", "loss", "accuracy", "model"),
    "memory": ("device_used_bytes", "disk_free_bytes", "slowed_by"),
    "checkpoint": ("step", "bytes"),
    "finished": ("step", "outcome"),
    "error": ("message", "problems"),
}


def hostile_lines() -> list[str]:
    """An event of each type for each field and each value that has no business there."""
    return [
        f'{{"v":1,"type":"{kind}","t":17e8,"{name}":{wrong}}}'
        for kind, names in TYPES.items()
        for name in (*names, "t")
        for wrong in WRONG
    ]


def test_no_event_ends_a_fold() -> None:
    run = make_run()
    deep = '{"type":"eval","a":' + "[" * 600 + "NaN" + "]" * 600 + "}"
    run.events_path.write_text("\n".join([*hostile_lines(), deep]) + "\n")
    fold, health = runs_api.RunFold(), HealthFold()
    for event in runs_api.read_events(run.events_path)[0]:
        fold.apply(event)
        health.apply(event)
    assert 0 < fold.last_time < 1e11
    assert isinstance(health.concerns(fold.last_time, live=True), tuple)


async def test_events_of_wrong_values_leave_the_deck_standing(cpu_machine: object) -> None:
    run = make_run("odd-clock")
    record(run, 5, 10)
    with run.events_path.open("a") as file:
        file.write("\n".join(hostile_lines()) + "\n")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "> odd-clock", "1 run,")
        await pilot.press("enter")
        await shows(pilot, short_name(run.id))
        assert app.current_mode == "run"


def test_a_run_that_cannot_be_read_is_a_row_that_says_so() -> None:
    good, bad = make_run("good"), make_run("bad")
    record(good, 5, 10, "completed")
    bad.events_path.mkdir()
    rows = {row.name.partition("-")[0]: row for row in RunList().read().rows}
    assert rows["good"].state == "completed"
    assert rows["bad"].state == "damaged"
    assert "cannot be read" in rows["bad"].error[0]


async def test_a_file_in_place_of_the_runs_is_told(cpu_machine: object, tmp_path: Path) -> None:
    (tmp_path / "state" / "tunedeck").mkdir(parents=True)
    (tmp_path / "state" / "tunedeck" / "runs").write_text("")
    with pytest.raises(EngineError, match="a file stands where a folder is needed"):
        runs_api.list_runs()
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "the folder cannot be read: a file stands where")
        await pilot.press("5")
        await shows(pilot, "no run is chosen")
        await pilot.press("4", "j")
        assert "cannot be read" in screen_text(app)


def test_names_that_begin_alike_are_told_apart() -> None:
    first, second = (f"smollm2-135m-instruct-alpaca-{end}" for end in ("1f3a", "09be"))
    assert middle(first, 20) == "smollm2-1…lpaca-1f3a"
    assert middle(first, 20) != middle(second, 20)
    assert [len(middle(first, cells)) for cells in (0, 1, 5, 12, 40)] == [0, 1, 5, 12, 33]
    assert middle("short", 9) == "short"
