"""Screen 4: states, attaching, deleting, and reasons for what cannot be done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from engine.api import runs as runs_api
from engine.runs.events import EventWriter
from tests.tui.conftest import SIZES, deck, make_run, record, screen_text, shows, until, worker_alive
from tests.tui.keyboard import at_once, click
from tests.tui.results_of import settle, trained
from tui.runs import listing
from tui.runs.listing import Listing, RunList


@pytest.mark.parametrize("size", SIZES)
async def test_runs_are_listed_with_their_states(size: tuple[int, int], cpu_machine: object) -> None:
    done, living = make_run("done-one"), make_run("alive-one")
    record(done, 100, 100, "completed")
    record(living, 20, 400)
    with worker_alive(living):
        app = deck()
        async with app.run_test(size=size) as pilot:
            await pilot.press("4")
            await shows(pilot, "done-one", "completed", "alive-one", "running", "20 of 400", "2 runs")
            assert size[0] < 80 or "2 runs, 1 alive" in screen_text(app)
            assert all(cell_len(line) <= size[0] for line in screen_text(app).splitlines())


async def test_enter_attaches_and_escape_comes_back(cpu_machine: object) -> None:
    record(make_run("done-one"), 100, 100, "completed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "> done-one")
        await pilot.press("enter")
        await shows(pilot, "step 100 of 100", "loss")
        await pilot.press("escape")
        await shows(pilot, "> done-one", "1 run, 0 alive")


async def test_delete_asks_first_and_refuses_living_runs(cpu_machine: object) -> None:
    run = make_run("doomed")
    record(run, 5, 10)
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        with worker_alive(run):
            await shows(pilot, "> doomed", "running")
            await pilot.press("d")
            await until(pilot, lambda: any("cannot be deleted" in str(n.message) for n in app._notifications))
        await until(pilot, lambda: "lost" in screen_text(app))
        await pilot.press("d")
        await shows(pilot, "This cannot be undone")
        await pilot.press("escape", "d", "y")
        await until(pilot, lambda: not run.path.exists())
        await shows(pilot, "no runs yet")


async def test_resume_starts_a_worker_and_attaches(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    run = make_run("again")
    record(run, 5, 10, "stopped")
    resumed = []

    def resume(found: object) -> subprocess.Popen[bytes]:
        resumed.append(found)
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])

    monkeypatch.setattr(runs_api, "resume_run", resume)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "> again", "stopped")
        await pilot.press("r")
        await shows(pilot, "step 5 of 10")
        assert [found.id for found in resumed] == [run.id]  # type: ignore[attr-defined]
        assert app.deck.process is not None
        app.deck.process.kill()
        app.deck.process.wait()


async def test_a_failed_run_tells_its_error(cpu_machine: object) -> None:
    run = make_run("bad")
    record(run, 5, 10)
    writer = EventWriter(run.events_path)
    writer.write("error", code="resources", message="out of memory at step 6", hint="halve the micro-batch")
    writer.write("finished", outcome="failed", step=5)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "failed", "out of memory at step 6")
        await pilot.press("e")
        await shows(pilot, "halve the micro-batch", "worker's log:")


async def test_the_list_rests_while_nobody_looks(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "no runs yet")
        await pilot.press("1")
        seen: list[int] = []

        def read(_: RunList) -> Listing:
            seen.append(1)
            return Listing()

        monkeypatch.setattr(RunList, "read", read)
        await pilot.pause(2.5)
        assert seen == []


def test_many_runs_are_read_once_each() -> None:
    for number in range(40):
        record(make_run(f"run-{number}"), 30, 30, "completed")
    runs = RunList()
    assert len(runs.read().rows) == 40
    began = time.perf_counter()
    assert {row.state for row in runs.read().rows} == {"completed"}
    assert time.perf_counter() - began < 1.0


def test_states_are_those_of_the_engine() -> None:
    done, gone, young, failed = (make_run(name) for name in ("done", "gone", "young", "failed"))
    record(done, 10, 10, "completed")
    record(gone, 5, 10)
    record(failed, 5, 10, "failed")
    alive = make_run("alive")
    record(alive, 5, 10)
    with worker_alive(alive):
        rows = RunList().read().rows
        assert {row.run.id: row.state for row in rows} == {
            run.id: runs_api.run_state(run) for run in runs_api.list_runs()
        }
        assert {row.name.partition("-")[0]: row.state for row in rows}["young"] == "starting"
    assert young.path.exists()


async def test_filters_narrow_the_list_as_they_are_typed(cpu_machine: object) -> None:
    record(make_run("alpha"), 10, 10, "completed")
    record(make_run("beta"), 5, 10, "stopped")
    record(make_run("gamma"), 7, 10, "failed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "alpha", "beta", "gamma", "3 runs")
        await pilot.press("slash", *"bet")
        await until(pilot, lambda: "alpha" not in screen_text(app) and "beta" in screen_text(app))
        await pilot.press(*"x")
        await shows(pilot, "no run is like that")
        await pilot.press(*" best<x")
        await shows(pilot, "after < comes a number")
        await pilot.press("escape")
        await shows(pilot, "alpha", "gamma")
        await pilot.press("f")
        await shows(pilot, "Show runs that are", "1  stopped", "3  all")
        await pilot.press("end", "enter")
        await shows(pilot, "only stopped")
        assert "alpha" not in screen_text(app)
        await pilot.press("escape")
        await shows(pilot, "alpha", "gamma")


async def test_orders_go_round(cpu_machine: object) -> None:
    for name, steps in (("alpha", 50), ("beta", 150), ("gamma", 100)):
        record(make_run(name), steps, 200, "completed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "gamma")

        def order() -> list[str]:
            return [line[3:].split("-")[0].strip() for line in screen_text(app).splitlines()[3:6]]

        await pilot.press("o")
        await until(pilot, lambda: order() == ["alpha", "beta", "gamma"])
        await shows(pilot, "run▲")
        await pilot.press("O")
        await until(pilot, lambda: order() == ["gamma", "beta", "alpha"])
        await pilot.press("l", "l", "l")
        await until(pilot, lambda: order() == ["beta", "gamma", "alpha"])
        await shows(pilot, "step▼")
        await pilot.press("h")
        await shows(pilot, "model▲")
        at_once(pilot, click(screen_text(app).splitlines()[2].index("step") + 1, 2))
        await until(pilot, lambda: order() == ["beta", "gamma", "alpha"])
        at_once(pilot, click(screen_text(app).splitlines()[2].index("step") + 1, 2))
        await until(pilot, lambda: order() == ["alpha", "gamma", "beta"])


async def test_settings_of_a_run_open_as_a_profile_with_what_it_overrode(cpu_machine: object, place: Path) -> None:
    overridden = {"lora.r": {"value": 4, "source": "override"}, "lora.alpha": {"value": 8, "source": "default"}}
    run = settle(provenance=overridden, profile_path=str(place / "mine.toml"))
    trained(run)
    (place / "mine.toml").write_text("")
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        await shows(pilot, "dates-1f3a")
        await pilot.press("u")
        await shows(pilot, "mine-2.toml *", "edited")
        form = app.deck.form
        assert form is not None
        assert (form.edits, form.path.parent) == ({"lora.r": 4}, place)
        assert form.text().startswith("# mine\n")
        (run.path / "profile.toml").write_text("")
        await pilot.press("4", "u")
        await until(pilot, lambda: any("kept no profile" in str(notice.message) for notice in app._notifications))


async def test_more_runs_than_are_shown_are_counted(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST", 2)
    for name in ("one", "two", "three"):
        record(make_run(name), 3, 3, "completed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "2 newest of 3 runs")
