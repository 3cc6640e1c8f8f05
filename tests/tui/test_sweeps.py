"""Sweeps on screen 4: one line that opens a ranked table of its trials."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from engine.api import runs
from engine.api import sweeps as sweeps_api
from engine.runs.events import EventWriter
from engine.sweep.store import create_sweep
from tests.tui.conftest import SIZES, deck, make_run, record, screen_text, shows, until
from tests.tui.results_of import put, settle, trained
from tests.tui.test_hostile import NASTY, check
from tui.runs.listing import Listing, RunList
from tui.runs.selecting import Selection, entries, sweeps

VALUES = (0.9, 0.5, None)


def sweep(metric: str = "eval_loss", state: str = "stopped") -> runs.Run:
    """A sweep of three trials: two with a value, one that was ended early."""
    found = create_sweep("rates", {"metric": metric, "trials": 4, "keys": ["lora.r"], "left_out": []}, "")
    rows = []
    for number, reached in enumerate(VALUES):
        params = {"lora.r": 4 * (number + 1), "train.learning_rate": 10.0 ** -(number + 2)}
        told = {"id": found.id, "trial": number, "params": params}
        run = settle(f"20260301-10111{number}-rates-{number}-00a{number}", sweep=told)
        trained(run, rate=10.0 + 20 * number)
        rows.append(
            {
                "trial": number,
                "params": params,
                "state": "completed" if reached else "pruned",
                "value": reached,
                "best_eval_loss": reached,
                "run": run.id,
                "reason": "" if reached else "worse than the others at step 25",
            }
        )
    put(found.path / "trials.json", {"v": 1, "trials": rows})
    writer = EventWriter(found.events_path)
    writer.write("started")
    writer.write("finished", outcome=state)
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_a_sweep_is_one_line_that_opens(size: tuple[int, int], cpu_machine: object) -> None:
    record(make_run("alone"), 10, 10, "completed")
    found = sweep()
    app = deck()
    async with app.run_test(size=size) as pilot:
        await pilot.press("4")
        await shows(pilot, "alone", "▸ rates-", "3 of 4 trials", "stopped")
        assert "rates-1-00a1" not in screen_text(app).splitlines()[4]
        await pilot.press(*["down"] * _line_of(app, "▸ rates-"), "enter")
        await shows(pilot, "3 trials", "rank trial")
        lines = screen_text(app).splitlines()
        assert all(cell_len(line) <= size[0] for line in lines)
        rows = [line.replace(">", " ").split() for line in lines[3:6]]
        assert [row[:2] for row in rows] == [["1", "1"], ["2", "0"], ["–", "2"]]
        if size[0] >= 80:
            assert "learning_rate" in lines[2]
            assert rows[0][2:4] == ["8", "0.001"]
            assert "pruned" in lines[5]
        await pilot.press("end")
        await shows(pilot, "worse than the others at step 25")
        await pilot.press("escape")
        await shows(pilot, "alone", f"$ engine sweeps show {found.id}"[:50])


def _line_of(app: Any, text: str) -> int:
    return next(number for number, line in enumerate(screen_text(app).splitlines()[3:]) if text in line)


async def test_trials_can_be_unfolded_compared_and_used_again(cpu_machine: object) -> None:
    found = sweep()
    (found.path / "best.toml").write_text('[model]\nname_or_path = "demo"\n')
    app = deck()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4")
        await shows(pilot, "▸ rates-")
        await pilot.press("enter", "space", "space", "c")
        await shows(pilot, "A rates-1-00a1  B rates-0-00a0")
        await pilot.press("escape", "escape", "t")
        await shows(pilot, "rates-2-00a2", "sweeps unfolded")
        assert "▸" not in screen_text(app)
        await pilot.press("t")
        await shows(pilot, "▸ rates-")
        assert "A sweep tries settings" in str(app.screen.help_here())  # type: ignore[attr-defined]
        await pilot.press("v")
        await shows(pilot, "rates-1-00a1", "not evaluated yet")
        await pilot.press("4", "y")
        await until(pilot, lambda: app.clipboard == str(found.path))
        await pilot.press("u")
        await shows(pilot, "-best.tom")
        assert app.current_mode == "profile"


async def test_a_sweep_is_stopped_resumed_and_deleted(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sweep()
    resumed: list[str] = []
    monkeypatch.setattr(sweeps_api, "resume_sweep", lambda one: resumed.append(one.id) or _Ended())
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        await shows(pilot, "▸ rates-", "stopped")
        await pilot.press("x")
        await until(pilot, lambda: any("this sweep is stopped already" in str(n.message) for n in app._notifications))
        await pilot.press("r")
        await until(pilot, lambda: resumed == [found.id])
        await pilot.press("space")
        await until(pilot, lambda: any("this is a sweep" in str(n.message) for n in app._notifications))
        await pilot.press("d")
        await shows(pilot, "and its 3 runs?")
        await pilot.press("y")
        await until(pilot, lambda: not found.path.exists() and not runs.list_runs())
        await shows(pilot, "no runs yet")


class _Ended:
    """A worker that is gone already."""

    def poll(self) -> int:
        """Its code."""
        return 0


def test_trials_stand_together_when_their_sweep_is_gone(place: object) -> None:
    told = {"id": "20250101-101010-gone-aaaa", "trial": 1, "params": {"lora.r": 4}}
    trained(settle("20260301-101110-gone-1-00a1", sweep=told))
    (one,) = sweeps(RunList().read())
    assert (one.state, one.facts, len(one.trials)) == ("removed", None, 1)


def test_damaged_sweeps_and_hostile_settings_are_lines_too(place: object) -> None:
    found = sweep()
    put(found.path / "sweep.json", {"v": 99})
    (line,) = entries(RunList().read(), Selection())
    assert line.state == "damaged"
    put(found.path / "sweep.json", {"v": 1, "metric": "exact_match", "trials": "many"})
    put(found.path / "trials.json", {"trials": [{"trial": 1}]})
    (line,) = entries(RunList().read(), Selection())
    assert line.state == "stopped"
    assert entries(Listing(), Selection()) == []


async def test_hostile_sweeps(cpu_machine: object) -> None:
    told = {"id": NASTY, "trial": NASTY, "params": {NASTY: NASTY, "x": [NASTY]}}
    trained(settle("20260301-101110-odd-1-00a1", sweep=told))
    app = deck()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4")
        await shows(pilot, "▸", "[/x]")
        check(app)
        await pilot.press("enter")
        await shows(pilot, "1 trial of", "[INST]")
        check(app)
