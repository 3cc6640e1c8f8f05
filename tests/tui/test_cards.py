"""Screen 6: the cards of recorded machines, live; who holds them; a start that waits for room."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.api.cards import CardLoad, Loads, run_of_process
from engine.hardware.machine import Gpu, GpuProcess
from tests.tui.conftest import GIB, SIZES, deck, make_run, screen_text, shows, until
from tests.unit.hardware.conftest import FakeNvml, load_recording
from tui.cards import screen as cards_screen
from tui.cards import waiting
from tui.cards.view import (
    ORDERS,
    Holder,
    Wanted,
    card_row,
    holder_row,
    holders_of,
    ordered,
    owner_bar,
)
from tui.cards.waiting import LOOKS, Waiter, Waiting, check_amount
from tui.charts.card_history import GAUGES, KEPT_S, History
from tui.charts.gauges import columns_of, gauges_text
from tui.documents.form import Form
from tui.reading import cards as reading

Recording = Callable[[str], dict[str, Any]]
NAMES = ["four-h100", "mixed", "mig", "lost", "gb10", "v100-old-driver", "unknown-card"]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """The driver answers from a recording, which a test may change while the deck runs."""

    def use(name: str) -> dict[str, Any]:
        found = load_recording(name)
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(found))
        return found

    monkeypatch.setattr(cards_screen, "REFRESH_S", 0.05)
    return use


def load(used_gib: float = 20.0, **fields: Any) -> CardLoad:
    gpu = Gpu(
        "NVIDIA A100-SXM4-80GB",
        index=0,
        total_bytes=80 * GIB,
        used_bytes=int(used_gib * GIB),
        free_bytes=int((80 - used_gib) * GIB),
        utilization_percent=98,
        power_w=389.0,
        power_limit_w=400.0,
        temperature_c=61,
    )
    return CardLoad(replace(gpu, **fields), sm_clock_mhz=1410, sm_clock_most_mhz=1410, slowdown_c=90)


@pytest.mark.parametrize(
    ("name", "size"), [*((name, (80, 24)) for name in NAMES), *(("four-h100", size) for size in SIZES if size[0] != 80)]
)
async def test_every_machine_fits_every_size(name: str, size: tuple[int, int], recorded: Recording) -> None:
    cards = recorded(name)["devices"]
    app = deck()
    async with app.run_test(size=size) as pilot:
        await pilot.press("6")
        shown = min(len(cards), max(2, size[1] // 4))
        await shows(pilot, "> GPU 0", "on the GPUs", "? help", *(f" GPU {number}" for number in range(shown)))
        assert all(cell_len(row) <= size[0] for row in screen_text(app).splitlines())


async def test_a_busy_card_with_its_holders(recorded: Recording) -> None:
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("6", "down")
        await shows(
            pilot, "> GPU 1 RTX 4090", "util   87 %", "memory 6.1 of 24.0 GiB", "heat   61 of 90 °C", "gen 4 x16"
        )
        await shows(pilot, "GPU 1", "4321", "5.5", "3 processes on the GPUs")


async def test_values_move_with_the_card(recorded: Recording) -> None:
    found = recorded("h100")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        await shows(pilot, "> GPU 0")
        found["devices"][0]["nvmlDeviceGetTemperature"] = 83
        found["devices"][0]["nvmlDeviceGetCurrentClocksEventReasons"] = 0x20
        await shows(pilot, "heat   83 of 90 °C", "GPU 0 is slowed: heat")
        await pilot.press("p")
        await shows(pilot, "view held still")
        found["devices"][0]["nvmlDeviceGetTemperature"] = 44
        await pilot.pause(0.3)
        assert "heat   83" in screen_text(app)
        await pilot.press("p")
        await shows(pilot, "heat   44 of 90 °C")


@pytest.mark.parametrize(("name", "words"), [("no-library", "NVIDIA driver"), ("mismatch", "restart the machine")])
async def test_without_a_driver_the_reason_stands_there_whole(name: str, words: str, recorded: Recording) -> None:
    recorded(name)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        await shows(pilot, words)
        assert "…" not in screen_text(app)


async def test_a_driver_that_hangs_does_not_stop_the_deck(recorded: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded("h100")
    monkeypatch.setattr(cards_screen, "_QUIET_S", -1.0)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        await shows(pilot, "> GPU 0", "the driver has not answered for")
        await pilot.press("4")
        await shows(pilot, "0 runs")


async def test_enter_on_a_process_shows_its_run(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded("mixed")
    run = make_run("support-bot")
    monkeypatch.setattr(reading, "run_of_process", lambda pid: run if pid == 4321 else None)
    monkeypatch.setattr("engine.hardware.holders._in_host_namespace", lambda root: True)
    monkeypatch.setattr("engine.hardware.holders._name_and_user", lambda pid, root: ("python", "anna"))
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        await shows(pilot, "run support-bot")
        await pilot.press("tab")
        await shows(pilot, "> GPU 1")
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "run")
        assert app.deck.run is not None
        assert app.deck.run.id == run.id


async def test_a_start_waits_for_room_and_then_starts(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    found = recorded("rtx4090")
    memory = found["devices"][0]["nvmlDeviceGetMemoryInfo"]["v2"]
    memory["free"] = 4 * GIB
    asked: list[str] = []

    def launch(text: str, path: Path) -> tuple[Any, Any]:
        asked.append(text)
        return make_run("started"), None

    monkeypatch.setattr(waiting, "launch", launch)
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.deck.machine is not None)
        await pilot.press("6")
        await shows(pilot, "> GPU 0")
        await pilot.press("w")
        await shows(pilot, "no profile is open")
        app.deck.form = Form(place / "bot.toml", '[model]\nname_or_path = "demo"\n')
        await pilot.press("w")
        await shows(pilot, "Start bot.toml once GPU 0 has so many GiB free")
        await pilot.press("ctrl+u", *"99", "enter")
        await shows(pilot, "the card has 24.0 GiB in all")
        await pilot.press("ctrl+u", *"18", "enter")
        await shows(pilot, "bot.toml starts when GPU 0 has 18.0 GiB free: 4.0 now")
        await pilot.pause(0.3)
        assert not asked
        memory["free"] = 20 * GIB
        await until(pilot, lambda: app.current_mode == "run")
    assert len(asked) == 1
    assert 'gpu = "GPU-' in asked[0]


async def test_w_again_ends_the_wait(recorded: Recording, place: Path) -> None:
    recorded("rtx4090")["devices"][0]["nvmlDeviceGetMemoryInfo"]["v2"]["free"] = 0
    app = deck()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: app.deck.machine is not None)
        app.deck.form = Form(place / "bot.toml", '[model]\nname_or_path = "demo"\n')
        await pilot.press("6")
        await shows(pilot, "> GPU 0")
        await pilot.press("w", "ctrl+u", *"18", "enter")
        await shows(pilot, "starts when GPU 0")
        await pilot.press("w")
        await shows(pilot, "nothing was started")
        await until(pilot, lambda: "starts when GPU 0" not in screen_text(app))


def test_room_counts_only_when_it_stays() -> None:
    started: list[Any] = []
    waiter = Waiter(deck(), started.append, started.append)
    waiter.wait(Waiting("bot", "", Path("bot.toml"), (0, None), "GPU 0", 30 * GIB))
    for used in (10, 10, 60, 10, 10):
        waiter.saw(Loads(0.0, (load(used),)))
    assert waiter.waiting is not None
    assert LOOKS == 3
    assert "70.0 now" in waiter.words(Loads(0.0, (load(10),)))
    assert "does not answer" in waiter.words(Loads(0.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "type a number"),
        ("nan", "above 0"),
        ("inf", "above 0"),
        ("-3", "above 0"),
        ("81", "80.0 GiB in all"),
        ("79.5", ""),
    ],
)
def test_what_can_be_waited_for(text: str, words: str) -> None:
    found = check_amount(80 * GIB, text)
    assert words in found
    assert bool(found) == bool(words)


def test_the_bar_tells_owners_apart_and_where_a_model_would_end() -> None:
    mine, other = GpuProcess(1, 20 * GIB, "python", "me"), GpuProcess(2, 10 * GIB, "python", "anna")
    gpu = load(40, processes=(mine, other)).gpu
    bar = "".join(part[0] for part in owner_bar(gpu, Wanted("m", 20 * GIB), "me", 16) if isinstance(part, tuple))
    assert bar == "████▓▓▒▒░░░┃░░░░"
    full = owner_bar(gpu, Wanted("m", 60 * GIB), "me", 16)
    assert full[-1] == ("┃", "$error")


def test_bars_of_all_cards_end_in_one_column() -> None:
    cards = [load(1, power_w=None), load(70, utilization_percent=None), replace(load(40), slowed_by=("power limit",))]
    for width in (58, 78, 118, 198):
        rows = [card_row(one, None, "me", 6, width, False).plain for one in cards]
        assert len({row.index(" of 80.0") for row in rows}) == 1
        assert all(cell_len(row) <= width for row in rows)


def test_ten_minutes_of_readings_keep_two() -> None:
    history = History()
    for second in range(600):
        history.add(Loads(float(second), (load(second % 80),)))
    series = history.series((0, None), GAUGES[1])
    assert len(series) == KEPT_S + 1
    assert series[0][0] == KEPT_S
    assert series[-1] == (0.0, float((599 % 80) * GIB))


def test_a_gauge_draws_now_at_the_right_and_nothing_where_nothing_was_read() -> None:
    rows = columns_of([(60.0, 50.0), (0.0, 100.0)], 0.0, 100.0, 4, 2)
    assert rows == [" " * 3 + "█", " █ █"]
    assert columns_of([(0.0, 0.0)], 0.0, 100.0, 1, 1) == ["▁"]


def test_gauges_take_the_room_there_is() -> None:
    history = History()
    history.add(Loads(0.0, (load(),)))
    for width, height in ((58, 3), (78, 6), (118, 12), (198, 12)):
        rows = gauges_text(history, load(), width, height).plain.splitlines()
        assert 0 < len(rows) <= height
        assert all(cell_len(row) <= width for row in rows)
        assert rows[0].startswith("util   98 %")


def test_processes_go_by_what_was_asked_for() -> None:
    small = GpuProcess(10, GIB, "python", "zoe")
    large = GpuProcess(11, 9 * GIB, "python", "anna")
    loads = Loads(0.0, (replace(load(10, processes=(small, large)), busy_percent_of={10: 90, 11: 5}),))
    found = holders_of(loads, {10: ("support-bot", 38 * GIB)})
    first = {order: ordered(found, order)[0].process.pid for order in ORDERS}
    assert first == {"memory": 11, "use": 10, "card": 11, "user": 11}
    own = next(one for one in found if one.process.pid == 10)
    assert "run support-bot of 38.0 GiB predicted" in holder_row(own, "zoe", 118, False).plain


def test_a_name_from_the_driver_never_reaches_the_terminal_as_it_is() -> None:
    nasty = "\x1b]52;c;aGk=\x07[bold]x"
    one = Holder("GPU 0", (0, None), GpuProcess(1, GIB, nasty, nasty))
    assert "\x1b" not in holder_row(one, "me", 78, False).plain
    assert "\x1b" not in card_row(load(name=nasty), None, "me", 6, 118, False).plain


def test_the_command_line_of_a_worker_names_its_run(tmp_path: Path) -> None:
    run = make_run("bot")
    other = tmp_path / "elsewhere" / "runs" / run.id
    other.mkdir(parents=True)
    cases = {
        1: (["python", "-P", "-m", "engine.worker", str(run.path)], run.id),
        2: (["python", "-m", "engine.worker", str(run.path / "eval" / "1")], run.id),
        3: (["python", "-m", "engine.worker", str(other)], None),
        4: (["python", "-m", "engine.worker", f"{run.path}/../../../secret"], None),
        5: (["vim", "engine.worker"], None),
        6: (["python", "-m", "engine.worker", str(run.path) + "x"], None),
    }
    for pid, (words, _) in cases.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    found = {pid: run_of_process(pid, tmp_path) for pid in (*cases, 7)}
    assert {pid: one.id if one else None for pid, one in found.items()} == {
        pid: want for pid, (_, want) in cases.items()
    } | {7: None}
