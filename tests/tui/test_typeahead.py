"""Keys that come in one chunk do what they would do one by one, and no command passes over an open field."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from engine import api
from engine.hardware.machine import Machine
from engine.runs.store import create_run
from tests.tui.conftest import attached, deck, make_run, record, screen_text, shows, until
from tests.tui.keyboard import CLEAR, COPY, DOWN, END, ENTER, F1, PALETTE, QUIT, SAVE, START, TAB, at_once, click
from tests.tui.small_profile import TEXT, put_profile
from tui.app import DeckApp
from tui.newprofile import file_form
from tui.screens.modals import Ask, Confirm
from tui.screens.profile import ProfileScreen
from tui.widgets.field import FieldRow

SMALL = [(60, 16), (80, 24)]


@pytest.fixture
def profile(place: Path, cpu_machine: Machine) -> Path:
    """A profile on disk, with its data."""
    return put_profile(place)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What runs would be started with; none is."""
    found: list[dict[str, Any]] = []

    def start(name: str, run_json: dict[str, Any], text: str) -> tuple[Any, subprocess.Popen[bytes]]:
        found.append(run_json)
        return create_run(name, run_json, text), subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(api, "start_run", start)
    return found


def opened(path: Path) -> DeckApp:
    app = deck()
    app.deck.form = file_form(path)
    return app


def form_of(app: DeckApp) -> ProfileScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, ProfileScreen)
    return screen


def rows(app: DeckApp) -> dict[str, FieldRow]:
    return {row.spec.key: row for row in form_of(app).rows}


def current(app: DeckApp) -> str:
    row = form_of(app).row
    return row.spec.key if row is not None else ""


async def on_row(pilot: Pilot[Any], app: DeckApp, key: str) -> None:
    """The form is there, and `key` has the keyboard."""
    await pilot.press("2")
    await until(pilot, lambda: isinstance(app.screen_stack[0], ProfileScreen))
    await until(pilot, lambda: key in rows(app) and app.focused is not None and form_of(app).found.plan is not None)
    form_of(app).set_focus(rows(app)[key])
    await pilot.pause()


@pytest.mark.parametrize("size", SMALL)
async def test_every_step_of_the_cursor_counts(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await on_row(pilot, app, "model.name_or_path")
        keys = list(rows(app))
        at_once(pilot, "j" * 25, DOWN * 3, "k")
        start = keys.index("model.name_or_path")
        await until(pilot, lambda: current(app) == keys[start + 27])


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
        assert current(app) == "lora.alpha"
        assert not app.screen.query("FieldRow Input")


@pytest.mark.parametrize("size", SMALL)
async def test_keys_wait_for_a_screen_that_is_not_built_yet(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, "2jjk", ENTER, CLEAR, "16k", ENTER, "4", "2k")
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.edits != {}, 20)
        assert app.deck.form is not None
        assert app.deck.form.edits == {"model.max_length": 16384}
        await until(pilot, lambda: app.current_mode == "profile" and current(app) == "model.max_length")


@pytest.mark.parametrize("size", SMALL)
async def test_what_is_typed_and_not_taken_yet_is_saved(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await on_row(pilot, app, "model.max_length")
        at_once(pilot, ENTER, CLEAR, "512", SAVE)
        await until(pilot, lambda: "max_length = 512" in profile.read_text())
        await until(pilot, lambda: rows(app)["model.max_length"].state.value == "512")
        assert not rows(app)["model.max_length"].editing
        assert current(app) == "model.max_length"


@pytest.mark.parametrize("size", SMALL)
async def test_what_is_typed_and_not_taken_yet_is_trained(
    size: tuple[int, int], profile: Path, started: list[dict[str, Any]]
) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await on_row(pilot, app, "train.learning_rate")
        at_once(pilot, ENTER, CLEAR, "5e-5", START)
        await until(pilot, lambda: started)
        assert started[0]["settings"]["train"]["learning_rate"] == 5e-5
        assert "learning_rate = 5e-05" in profile.read_text() or "learning_rate = 5e-5" in profile.read_text()


async def test_a_run_goes_by_the_settings_as_they_are_now(profile: Path, started: list[dict[str, Any]]) -> None:
    """A problem that the typed value mends is no reason not to start."""
    profile.write_text(TEXT.replace("rows.jsonl", "gone.jsonl"))
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: form_of(app).found.problems)
        form_of(app).set_focus(rows(app)["data.datasets.0.path"])
        at_once(pilot, ENTER, CLEAR, "rows.jsonl", START)
        await until(pilot, lambda: started)
        assert not [one for one in app._notifications if one.severity == "error"]


@pytest.mark.parametrize("size", SMALL)
@pytest.mark.parametrize("command", [START, SAVE, "\x19", QUIT], ids=["run", "save", "redo", "quit"])
async def test_a_command_is_refused_while_a_field_holds_what_it_cannot_take(
    command: str, size: tuple[int, int], profile: Path, started: list[dict[str, Any]]
) -> None:
    app = opened(profile)
    async with app.run_test(size=size, notifications=True) as pilot:
        await on_row(pilot, app, "train.learning_rate")
        at_once(pilot, ENTER, CLEAR, "nope", command)
        await until(pilot, lambda: any("cannot be taken" in str(note.message) for note in app._notifications))
        await shows(pilot, "must be a number")
        await pilot.pause(0.3)
        row = rows(app)["train.learning_rate"]
        assert row.editing
        assert isinstance(app.focused, Input)
        assert app.focused.value == "nope"
        assert (started, profile.read_text(), app.is_running) == ([], TEXT, True)
        at_once(pilot, CLEAR, "5e-5", SAVE)
        await until(pilot, lambda: profile.read_text() != TEXT)


@pytest.mark.parametrize("leave", ["click", "tab", "jump", "mode", "another row's field"])
async def test_leaving_a_field_takes_its_value_or_stays(leave: str, profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:

        async def go() -> None:
            other = rows(app)["lora.alpha"]
            if leave == "click":
                await pilot.click(other)
            elif leave == "tab":
                at_once(pilot, TAB)
            elif leave == "jump":
                at_once(pilot, "\x0fa")
            elif leave == "mode":
                app.action_command("runs")
            else:
                other.focus()
            await pilot.pause(0.3)

        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "none")
        await until(pilot, lambda: rows(app)["lora.r"].editing)
        await go()
        assert app.current_mode == "profile"
        assert len(app.screen_stack) == 1
        assert isinstance(app.focused, Input)
        assert rows(app)["lora.r"].editing
        at_once(pilot, CLEAR, "32")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "32")
        await go()
        assert app.deck.form is not None
        assert app.deck.form.given("lora.r") == 32
        assert not isinstance(app.focused, Input)


async def test_clicks_wait_their_turn_too(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "model.max_length")
        save = screen_text(app).splitlines()[23].index("^s save") + 1
        other = rows(app)["lora.r"].region
        at_once(pilot, ENTER, CLEAR, "512", click(save, 23), ENTER, CLEAR, "384", click(other.x + 2, other.y), "a")
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.given("lora.r") is None)
        assert "max_length = 512" in profile.read_text()
        assert app.deck.form is not None
        assert app.deck.form.edits == {"model.max_length": 384, "lora.r": None}


async def test_an_open_field_keeps_the_keyboard_through_a_tiny_terminal(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "4")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "4")
        await pilot.resize_terminal(40, 10)
        await shows(pilot, "too small")
        await pilot.resize_terminal(80, 24)
        await shows(pilot, "max length")
        await pilot.pause(0.1)
        at_once(pilot, "8", ENTER)
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.given("lora.r") == 48)


async def test_a_field_left_as_it_was_is_no_edit(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on_row(pilot, app, "name")
        at_once(pilot, ENTER, SAVE)
        await until(pilot, lambda: app._notifications)
        assert app.deck.form is not None
        assert app.deck.form.edits == {}
        assert not app.screen.query("FieldRow Input")


async def test_help_may_be_read_with_a_field_open(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "no", F1)
        await shows(pilot, "Keys: profile")
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        at_once(pilot, CLEAR, "9", ENTER)
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.given("lora.r") == 9)


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


async def test_the_palette_finds_what_was_typed_at_once(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, PALETTE, "advanced", ENTER)
        await until(pilot, lambda: form_of(app).advanced and "lora.use_dora" in rows(app))
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
        began = time.monotonic()
        at_once(pilot, ENTER, CLEAR, "a b" * 10_000)
        await until(pilot, lambda: isinstance(app.focused, Input) and len(app.focused.value) == 30_000, 30)
        assert isinstance(app.focused, Input)
        assert app.focused.value == "a b" * 10_000
        assert time.monotonic() - began < 8


async def test_keys_are_not_held_for_ever(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.typeahead.LIMIT_S", 0.5)
    monkeypatch.setattr("tui.typeahead.URGENT_S", 0.2)
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on_row(pilot, app, "lora.r")
        monkeypatch.setattr(ProfileScreen, "ready", False)
        at_once(pilot, "jj", ENTER)
        await until(pilot, lambda: any("3 keys typed ahead" in str(note.message) for note in app._notifications))
        assert current(app) == "lora.r"
        at_once(pilot, "j")
        await until(pilot, lambda: current(app) == "lora.alpha")


async def test_leaving_gets_through_when_the_deck_waits(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.typeahead.URGENT_S", 0.2)
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        monkeypatch.setattr(ProfileScreen, "ready", False)
        at_once(pilot, "ajjv", QUIT)
        await until(pilot, lambda: not app.is_running, 5)
    assert app.return_code == 0


@pytest.mark.parametrize("key", [QUIT, COPY], ids=["ctrl+q", "ctrl+c"])
@pytest.mark.parametrize("where", ["row", "field", "dialog", "palette", "other screen"])
async def test_leaving_asks_for_what_is_not_saved(where: str, key: str, profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "16", ENTER)
        keys = {"row": "", "field": ENTER + END, "dialog": "S" + END, "palette": PALETTE, "other screen": "1/qw"}[where]
        at_once(pilot, keys, key)
        await shows(pilot, "edits that are not saved")
        at_once(pilot, ENTER)
        await pilot.pause(0.2)
        assert app.is_running
        at_once(pilot, QUIT)
        await pilot.pause(0.2)
        assert sum(isinstance(screen, Confirm) for screen in app.screen_stack) == 1
        at_once(pilot, COPY)
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        at_once(pilot, key, "y")
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


@pytest.mark.parametrize("key", [QUIT, COPY], ids=["ctrl+q", "ctrl+c"])
async def test_leaving_asks_nothing_when_nothing_is_lost(key: str, profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, key)
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


async def test_selected_text_is_copied_and_the_deck_stays(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on_row(pilot, app, "model.max_length")
        at_once(pilot, ENTER)
        await until(pilot, lambda: isinstance(app.focused, Input))
        assert isinstance(app.focused, Input)
        app.focused.select_all()
        at_once(pilot, COPY)
        await until(pilot, lambda: app.clipboard == "256" and len(app._notifications) == 1)
        assert app.is_running


async def test_only_y_deletes(cpu_machine: Machine) -> None:
    run = make_run()
    record(run, 20, 20, "completed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        at_once(pilot, "4")
        await shows(pilot, "> support-bot")
        at_once(pilot, "d", ENTER, ENTER)
        await shows(pilot, "cannot be undone", "y delete it", "n or esc no")
        await pilot.pause(0.2)
        assert run.path.exists()
        at_once(pilot, "n", "d")
        await shows(pilot, "cannot be undone")
        at_once(pilot, "y")
        await until(pilot, lambda: not run.path.exists())


async def test_a_question_that_can_be_undone_takes_enter(cpu_machine: Machine) -> None:
    app = deck()
    asked: list[bool | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        app.push_screen(Confirm("Stop it? It can be resumed.", "stop it"), asked.append)
        await shows(pilot, "y or enter stop it", "n or esc no")
        at_once(pilot, ENTER)
        await until(pilot, lambda: asked == [True])


async def test_no_command_reaches_what_lies_below_a_question(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, "S", PALETTE)
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await until(pilot, lambda: any("esc closes" in str(note.message) for note in app._notifications))
        assert isinstance(app.screen, Ask)
        assert isinstance(app.focused, Input)


async def test_a_wrong_value_is_checked_to_its_end(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "model.name_or_path")
        at_once(pilot, ENTER, CLEAR, "no/such/folder", ENTER)
        await shows(pilot, "1 to settle")
        assert "checking" not in screen_text(app)


async def test_a_path_that_is_too_long_is_a_problem_and_no_crash(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "model.name_or_path")
        at_once(pilot, ENTER, CLEAR, "a" * 2000)
        await shows(pilot, "file name too long", "1 to settle")
        assert app.is_running


async def test_what_cannot_be_read_yet_predicts_nothing_of_its_own(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")

        def adapters() -> int:
            plan = form_of(app).found.plan
            return plan.shape.lora_r if plan is not None else 0

        at_once(pilot, ENTER, CLEAR, "999")
        await until(pilot, lambda: adapters() == 999)
        at_once(pilot, "999")
        await until(pilot, lambda: adapters() == 8)


async def test_another_profile_opens_on_its_first_field(profile: Path) -> None:
    (profile.parent / "other.toml").write_text(TEXT.replace("r = 8", "r = 12"))
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "train.learning_rate")
        for name in ("other.toml", "mine.toml", "other.toml"):
            at_once(pilot, "o")
            await shows(pilot, "Open a profile")
            options = app.screen.query_one(OptionList)
            options.highlighted = next(
                at for at in range(options.option_count) if name in str(options.get_option_at_index(at).prompt)
            )
            at_once(pilot, ENTER)
            await until(pilot, lambda name=name: form_of(app)._form.name == name and form_of(app).rows)  # type: ignore
            await pilot.pause(0.3)
            assert current(app) == next(iter(rows(app)))
            assert form_of(app).query_one("#form").scroll_y == 0


async def test_a_file_that_cannot_be_opened_leaves_the_open_one_alone(profile: Path) -> None:
    (profile.parent / "broken.toml").write_bytes(b"\xff\xfe\x00")
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, "o", END, ENTER, "broken.toml", ENTER)
        await until(pilot, lambda: app._notifications)
        await pilot.pause(0.3)
        assert form_of(app).found.problems == ()
        assert form_of(app).found.plan is not None


async def test_a_file_that_changes_does_not_take_an_open_field_away(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "32")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "32")
        profile.write_text(TEXT.replace("256", "128"))
        form_of(app)._look_at_disk()
        await pilot.pause(0.3)
        assert isinstance(app.focused, Input)
        assert app.focused.value == "32"


async def test_a_question_that_comes_late_does_not_read_what_is_typed(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.sweeping.bill_text", lambda prepared: "4 trials, 2 min")
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "name")
        at_once(pilot, ENTER, CLEAR, "da")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "da")
        form_of(app)._ask_to_sweep("mine", None)  # type: ignore[arg-type]
        at_once(pilot, "y", ENTER)
        await shows(pilot, "4 trials, 2 min", "start the search")
        assert app.deck.form is not None
        assert app.deck.form.given("name") == "day"


async def test_a_stop_typed_ahead_waits_for_its_question(cpu_machine: Machine) -> None:
    run = make_run()
    record(run, 20, 400)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        at_once(pilot, "/loss", ENTER)
        await until(pilot, lambda: getattr(app.screen, "words", "") == "loss")
        assert app.current_mode == "run"
