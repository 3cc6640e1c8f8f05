"""Leaving asks for what is not saved, what cannot be undone wants `y`, and no command passes below a question."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from engine.hardware.machine import Machine
from tests.tui.conftest import deck, make_run, record, shows, until
from tests.tui.keyboard import CLEAR, COPY, END, ENTER, PALETTE, QUIT, at_once
from tests.tui.small_profile import on_row, opened
from tui.widgets.dialogs import Ask, Confirm


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
