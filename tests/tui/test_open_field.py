"""A command first takes what was typed into an open field, or is refused; the form says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, OptionList

from tests.tui.conftest import screen_text, shows, until
from tests.tui.keyboard import CLEAR, END, ENTER, F1, QUIT, SAVE, START, TAB, at_once
from tests.tui.small_profile import SMALL, TEXT, current, form_of, on_row, opened, pane_of, rows


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
        await until(pilot, lambda: app.current_mode == "run")


async def test_a_run_goes_by_the_settings_as_they_are_now(profile: Path, started: list[dict[str, Any]]) -> None:
    """A problem that the typed value mends is no reason not to start."""
    profile.write_text(TEXT.replace("rows.jsonl", "gone.jsonl"))
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: pane_of(app).found.problems)
        form_of(app).set_focus(rows(app)["data.datasets.0.path"])
        at_once(pilot, ENTER, CLEAR, "rows.jsonl", START)
        await until(pilot, lambda: started)
        await until(pilot, lambda: app.current_mode == "run")
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
    async with app.run_test(size=(80, 30)) as pilot:

        async def go() -> None:
            other = rows(app)["train.learning_rate"]
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
            plan = pane_of(app).found.plan
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
            await until(pilot, lambda name=name: pane_of(app).form.name == name and pane_of(app).rows)  # type: ignore
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
        assert pane_of(app).found.problems == ()
        assert pane_of(app).found.plan is not None


async def test_a_file_that_changes_does_not_take_an_open_field_away(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "32")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "32")
        profile.write_text(TEXT.replace("256", "128"))
        form_of(app).files.check_disk()
        await pilot.pause(0.3)
        assert isinstance(app.focused, Input)
        assert app.focused.value == "32"


async def test_a_question_that_comes_late_does_not_read_what_is_typed(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.profile.starting.bill_text", lambda prepared: "4 trials, 2 min")
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "name")
        at_once(pilot, ENTER, CLEAR, "da")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "da")
        form_of(app).starter.ask_to_sweep("mine", None)  # type: ignore[arg-type]
        at_once(pilot, "y", ENTER)
        await shows(pilot, "4 trials, 2 min", "start the search")
        assert app.deck.form is not None
        assert app.deck.form.given("name") == "day"
