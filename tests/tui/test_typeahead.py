"""Keys that come in one chunk do what they would do one by one; none is held for ever."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual.widgets import Input, OptionList

from engine.hardware.machine import Machine
from tests.tui.conftest import attached, deck, make_run, record, screen_text, shows, until
from tests.tui.keyboard import CLEAR, DOWN, ENTER, PALETTE, QUIT, at_once, click
from tests.tui.small_profile import SMALL, current, on_row, opened, pane_of, rows
from tui.fit import ranker
from tui.profile.screen import ProfileScreen
from tui.run.log_pane import LogPane


@pytest.mark.parametrize("size", SMALL)
async def test_every_step_of_the_cursor_counts(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await on_row(pilot, app, "model.name_or_path")
        stops = pane_of(app).cursor.stops
        at_once(pilot, "j" * 25, DOWN * 3, "k")
        await until(pilot, lambda: pane_of(app).stop is stops[27])


@pytest.mark.parametrize("size", SMALL)
async def test_the_words_of_a_filter_are_no_commands(size: tuple[int, int], cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, "/qwen")
        await until(pilot, lambda: app.screen.query_one("#filter", Input).value == "qwen")
        await pilot.pause(0.2)
        assert app.current_mode == "fit"
        assert app.is_running
        assert not app.screen.query_one(OptionList).has_focus


@pytest.mark.parametrize("size", SMALL)
async def test_a_value_is_typed_into_its_field(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "48", ENTER)
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.given("lora.r") == 48)
        await pilot.pause(0.2)
        assert app.current_mode == "profile"
        assert current(app) == "train.learning_rate"
        assert not app.screen.query("FieldRow Input")


@pytest.mark.parametrize("size", SMALL)
async def test_keys_wait_for_a_screen_that_is_not_built_yet(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, "2jjjk", ENTER, CLEAR, "16k", ENTER, "4", "2k")
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.edits != {}, 20)
        assert app.deck.form is not None
        assert app.deck.form.edits == {"model.max_length": 16384}
        await until(pilot, lambda: app.current_mode == "profile" and current(app) == "model.max_length")


async def test_clicks_wait_their_turn_too(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "model.max_length")
        await pilot.press("enter")
        await shows(pilot, "esc give up")
        save = screen_text(app).splitlines()[23].index("^s save") + 1
        await pilot.press("escape")
        other = rows(app)["lora.r"].region
        at_once(pilot, ENTER, CLEAR, "512", click(save, 23), ENTER, CLEAR, "384", click(other.x + 2, other.y), "a")
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.given("lora.r") is None)
        assert "max_length = 512" in profile.read_text()
        assert app.deck.form is not None
        assert app.deck.form.edits == {"model.max_length": 384, "lora.r": None}


@pytest.mark.parametrize("size", SMALL)
async def test_a_path_typed_right_after_the_key_that_asks_for_it(size: tuple[int, int], profile: Path) -> None:
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, DOWN, "prows.jsonl", ENTER)
        await until(pilot, lambda: app.current_mode == "profile" and current(app) != "")
        assert app.deck.form is not None
        assert app.deck.form.given("data.datasets.0.path") == "rows.jsonl"
        assert app.deck.form.given("model.name_or_path") != "demo"


async def test_a_slow_ranking_holds_back_what_acts_on_models_and_nothing_else(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = threading.Event()
    rank = ranker.rank
    monkeypatch.setattr(ranker, "rank", lambda *asked: (known.wait(20), rank(*asked))[1])
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        at_once(pilot, "4")
        await shows(pilot, "0 runs")
        at_once(pilot, "1", DOWN, "prows.jsonl", ENTER)
        later = time.monotonic() + 4
        monkeypatch.setattr("tui.fit.screen.time", SimpleNamespace(monotonic=lambda: later))
        await pilot.pause(0.2)
        known.set()
        await until(pilot, lambda: app.current_mode == "profile" and current(app) != "")
        assert app.deck.form is not None
        assert app.deck.form.given("data.datasets.0.path") == "rows.jsonl"


async def test_the_palette_finds_what_was_typed_at_once(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, PALETTE, "advanced", ENTER)
        await until(pilot, lambda: pane_of(app).outline.advanced and "lora.use_dora" in rows(app))
        assert len(app.screen_stack) == 1


async def test_keys_wait_for_the_list_of_runs(cpu_machine: Machine) -> None:
    runs = [make_run(f"run-{number}") for number in range(4)]
    for run in runs:
        record(run, 20, 20, "completed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, "4", DOWN, ENTER)
        await shows(pilot, "run-2", "step 20 of 20")


async def test_a_long_text_typed_into_a_field_does_not_deafen(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "name")
        began = time.process_time()  # of the deck, whatever else the machine does
        at_once(pilot, ENTER, CLEAR, "a b" * 10_000)
        await until(pilot, lambda: isinstance(app.focused, Input) and len(app.focused.value) == 30_000, 30)
        assert isinstance(app.focused, Input)
        assert app.focused.value == "a b" * 10_000
        assert time.process_time() - began < 5


async def test_keys_are_not_held_for_ever(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.terminal.typeahead.LIMIT_S", 0.5)
    monkeypatch.setattr("tui.terminal.typeahead.URGENT_S", 0.2)
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on_row(pilot, app, "lora.r")
        monkeypatch.setattr(ProfileScreen, "ready", False)
        at_once(pilot, "jj", ENTER)
        await until(pilot, lambda: any("3 keys typed ahead" in str(note.message) for note in app._notifications))
        assert current(app) == "lora.r"
        at_once(pilot, "j")
        await until(pilot, lambda: current(app) == "train.learning_rate")


async def test_leaving_gets_through_when_the_deck_waits(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.terminal.typeahead.URGENT_S", 0.2)
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        monkeypatch.setattr(ProfileScreen, "ready", False)
        at_once(pilot, "ajjv", QUIT)
        await until(pilot, lambda: not app.is_running, 5)
    assert app.return_code == 0


async def test_a_stop_typed_ahead_waits_for_its_question(cpu_machine: Machine) -> None:
    run = make_run()
    record(run, 20, 400)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        at_once(pilot, "/loss", ENTER)
        await until(pilot, lambda: app.screen.query_one(LogPane).words == "loss")
        assert app.current_mode == "run"
