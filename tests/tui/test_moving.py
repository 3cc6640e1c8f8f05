"""vim's keys in lists and texts, the search in the help, clicks, and the deck put aside by ^z."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.containers import VerticalScroll
from textual.content import Content

from tests.tui.conftest import attached, deck, make_run, record, screen_text, shows, until
from tests.tui.keyboard import at_once, click, wheel
from tui.documents.new import demo_form
from tui.run.screen import RunScreen
from tui.widgets.dialogs import Pick
from tui.widgets.reader import places
from tui.widgets.rows import Rows


async def test_vim_keys_move_in_lists_and_texts(cpu_machine: object) -> None:
    app = deck()
    app.deck.form = demo_form()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        rows = app.screen.query_one(Rows)
        last = len(rows.rows) - 1
        for keys, place in ((["k"], 0), (["j", "j"], 2), (["G"], last), (["j"], last), (["k"], last - 1), (["g"], 0)):
            await pilot.press(*keys)
            assert rows.highlighted == place, keys
        await pilot.press("ctrl+d")
        half = rows.highlighted
        assert half is not None
        assert 2 <= half < rows.size.height
        await pilot.press("ctrl+u", "question_mark")
        text = app.screen.query_one(VerticalScroll)
        for keys, place in ((["j"], 1), (["G"], text.max_scroll_y), (["g"], 0)):
            await pilot.press(*keys)
            assert text.scroll_y == place, keys
        await pilot.press("escape", "2")
        await shows(pilot, "demo (shipped)", "OK")
        found = []
        for key in ("g", "j", "G", "k", "g"):
            await pilot.press(key)
            found.append(app.focused)
        assert found[0] is found[4]
        assert len({id(row) for row in found}) == 4


async def test_vim_keys_move_in_questions_and_the_log(cpu_machine: object) -> None:
    run = make_run()
    record(run, 200, 400, "completed")
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "checkpoint")
        screen = app.screen
        assert isinstance(screen, RunScreen)
        lines = screen.log_pane.lines
        await pilot.press("g")
        await until(pilot, lambda: lines.scroll_y == 0 and not lines.following)
        await pilot.press("j", "ctrl+d")
        assert lines.scroll_y == 1 + lines.size.height // 2
        at_once(pilot, wheel(20, 8, up=True), wheel(20, 8, up=True))
        await until(pilot, lambda: screen.curves.view.span == pytest.approx(199 / 4))
        at_once(pilot, wheel(20, 8, up=False), wheel(20, 20, up=False))
        await until(pilot, lambda: screen.curves.view.span == pytest.approx(199 / 2))
        await app.push_screen(Pick("one of", [Content(word) for word in "abc"], 0))
        await pilot.press("j", "G", "k")
        assert app.screen.query_one("OptionList").highlighted == 1  # type: ignore[attr-defined]


def test_places_are_found_whatever_their_case() -> None:
    assert places("İ Stop the run; stop it", "stop") == [2, 16]
    assert places("anything", "") == places("a.c", "a+c") == []


async def test_help_is_searched(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(60, 16)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("question_mark", "slash", *"filter")
        await shows(pilot, "1 of ")
        await pilot.press("enter", "n")
        await shows(pilot, "2 of ")
        await pilot.press("N")
        await shows(pilot, "1 of ")
        await pilot.press("slash", *"xyz", "enter")
        await shows(pilot, "nothing found")
        await pilot.press("escape")
        await until(pilot, lambda: "nothing found" not in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)


def place(app: App[Any], text: str) -> tuple[int, int]:
    """The cell where `text` begins."""
    return next((line.index(text), y) for y, line in enumerate(screen_text(app).splitlines()) if text in line)


async def test_a_click_chooses_and_a_second_one_opens(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        rows = app.screen.query_one(Rows)
        y = next(at for at, line in enumerate(screen_text(app).splitlines()) if "> demo" in line) + 2
        at_once(pilot, click(10, y))
        await until(pilot, lambda: rows.highlighted == 2)
        assert len(app.screen_stack) == 1
        at_once(pilot, click(10, y))
        await shows(pilot, "make a profile")
        x, y = next(
            (line.index("esc"), at) for at, line in enumerate(screen_text(app).splitlines()) if "esc back" in line
        )
        at_once(pilot, click(x, y))
        await until(pilot, lambda: len(app.screen_stack) == 1)
        for name, label in (("runs", "4 Runs"), ("fit", "1 Fit")):
            at_once(pilot, click(*place(app, label)))
            await until(pilot, lambda name=name: app.current_mode == name)  # type: ignore[misc]
        names = [row.key for row in rows.rows]
        at_once(pilot, click(*place(app, "tokens/s")))
        await shows(pilot, "tokens/s▼")
        assert [row.key for row in rows.rows] != names
        await pilot.press("s")
        await until(pilot, lambda: [row.key for row in rows.rows] == names)
        at_once(pilot, click(*place(app, "goal")))
        await shows(pilot, "goal speed")


JOB = """
from tui.terminal.suspending import can_come_back
print(can_come_back(), flush=True)
"""


def test_only_a_job_of_a_shell_is_put_aside() -> None:
    """Without a shell that watches it, nobody could ever wake the deck."""
    run, root = [sys.executable, "-c", JOB], {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    job = subprocess.run(run, capture_output=True, text=True, process_group=0, check=True, env=root)
    alone = subprocess.run(run, capture_output=True, text=True, start_new_session=True, check=True, env=root)
    assert (job.stdout, alone.stdout) == ("True\n", "False\n")
