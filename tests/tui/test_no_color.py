"""`NO_COLOR`: not one color code reaches the terminal, and what colors tell otherwise can still be seen."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator

import pytest
from rich.segment import Segment
from textual.app import App
from textual.widgets import Input

from tests.tui.conftest import GIB, attached, deck, make_run, record, screen_text, shows, until
from tests.tui.results_of import put, report
from tests.tui.terminal import Terminal
from tui.app import DeckApp
from tui.charts.chart import ChartData, Series, draw
from tui.charts.decimate import Point
from tui.documents.new import demo_form
from tui.frame.themes import ANSI, ANSI_LIGHT, TRUECOLOR
from tui.runs.commands import Selection

SGR = re.compile(rb"\x1b\[([0-9;:]*)m")
SCREENS = ["fit", "profile", "run", "runs", "compare", "results"]
MEASURED = ("device_used", "process", "reserved", "allocated")
TERMINALS = {
    "xterm": {"TERM": "xterm"},
    "256 colors": {"TERM": "xterm-256color"},
    "screen": {"TERM": "screen"},
    "linux": {"TERM": "linux"},
    "light": {"TERM": "xterm-256color", "COLORFGBG": "0;15"},
    "truecolor": {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
    "light truecolor": {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLORFGBG": "0;15"},
}


def color_codes(sent: bytes) -> set[bytes]:
    """Codes that choose a color; what is left are bold, dim, underline, reverse and their ends."""
    found = {code for match in SGR.finditer(sent) for code in re.split(rb"[;:]", match[1])}
    return {code for code in found if code and (30 <= int(code) <= 49 or 90 <= int(code) <= 107)}


def test_a_color_is_found_in_what_is_sent() -> None:
    assert color_codes(b"\x1b[1;38;5;16;48;5;16mx\x1b[0m") == {b"38", b"48"}
    assert color_codes(b"\x1b[1;96mx\x1b[0;7mx\x1b[39m") == {b"96", b"39"}
    assert not color_codes(b"\x1b[1;2;4;7mx\x1b[0m")


@pytest.mark.parametrize("name", TERMINALS)
def test_no_color_code_is_sent(name: str) -> None:
    terminal = Terminal(NO_COLOR="1", **{"COLORFGBG": "", **TERMINALS[name]})
    try:
        terminal.wait_for(b"demo (built")
        terminal.wait_for(b" OK ")
        os.write(terminal.master, b"p")
        terminal.wait_for(b"max length")
        os.write(terminal.master, b"?")
        terminal.wait_for(b"keys")
        assert not color_codes(terminal.seen)
        rows = [match[0] for match in re.finditer(rb"\x1b\[([0-9;]*)m> [^\x1b]*", terminal.seen)]
        assert any(b"demo (built" in terminal.seen[terminal.seen.index(row) :][:120] and b"7m" in row for row in rows)
    finally:
        terminal.end()


def test_an_empty_variable_asks_for_nothing() -> None:
    terminal = Terminal(NO_COLOR="", TERM="xterm")
    try:
        terminal.wait_for(b"demo (built")
        terminal.wait_for(b" OK ")
        assert {b"32", b"36"} <= color_codes(terminal.seen)
    finally:
        terminal.end()


@pytest.fixture
def no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colors are not wanted."""
    monkeypatch.setenv("NO_COLOR", "1")


def segments(app: App[None]) -> Iterator[Segment]:
    """All that stands on the screen, with its styles."""
    for strip in app.screen._compositor.render_strips():
        yield from strip


def colored(app: App[None]) -> list[Segment]:
    """What still has a color."""
    return [one for one in segments(app) if one.style and (one.style.color or one.style.bgcolor)]


def reversed_text(app: App[None]) -> str:
    """What stands out by reverse."""
    return "|".join(one.text for one in segments(app) if one.style and one.style.reverse)


def full_deck() -> DeckApp:
    """A deck with something on each screen."""
    run = make_run()
    record(run, 80)
    app = attached(run)
    app.deck.form = demo_form()
    app.deck.of(Selection).marked, app.deck.chosen = (run, make_run("other")), run
    put(run.path / "eval" / "report.json", report())
    return app


@pytest.mark.parametrize("theme", [TRUECOLOR, ANSI_LIGHT, "nord"])
async def test_no_screen_has_a_color_in_any_theme(theme: str, no_color: None, cpu_machine: object) -> None:
    app = full_deck()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.theme = theme
        for mode in SCREENS:
            app.switch_mode(mode)
            await pilot.pause(0.2)
            app.notify("something happened", severity="error")
            await shows(pilot, "something happened")
            assert not colored(app), mode
            assert any(one.style and one.style.dim for one in segments(app)), mode
        await pilot.press("ctrl+p")
        await shows(pilot, "Search for commands")
        assert not colored(app)


@pytest.mark.parametrize("theme", [TRUECOLOR, ANSI])
async def test_the_row_under_the_cursor_is_reversed(theme: str, no_color: None, cpu_machine: object) -> None:
    app = full_deck()
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = theme
        await pilot.press("1")
        await shows(pilot, "> demo", "OK")
        assert "> demo" in reversed_text(app)
        await pilot.press("4")
        await shows(pilot, "support-bot", "other")
        # The newer one stands first, and both are of the same second or not.
        assert any(f"> {name}" in reversed_text(app) for name in ("support-bot", "other"))
        await pilot.press("2")
        await shows(pilot, "max length")
        await pilot.press("down")
        await pilot.pause()
        assert "data file" in reversed_text(app)


async def test_a_field_shows_its_cursor_and_what_is_selected(no_color: None, cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "OK")
        await pilot.press("slash", *"qwen")
        await shows(pilot, "qwen")
        field = app.screen.query_one("#filter", Input)
        field.select_all()
        await pilot.pause()
        marked = [one for one in segments(app) if one.style and one.style.reverse and one.style.underline]
        assert any(one.text == "qwen" for one in marked)
        field.cursor_position = 1
        await pilot.pause()
        assert any(one.text == "w" and one.style and one.style.reverse for one in segments(app))


async def test_marks_for_the_mouse_stay(no_color: None, cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "OK")
        await pilot.click("#models", offset=(4, 2), times=2)
        await pilot.pause(0.2)
        assert "make a profile" in screen_text(app)


async def test_kinds_of_notices_look_different(no_color: None, cpu_machine: object) -> None:
    app = deck()
    signs = set()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "> demo", "OK")
        for kind in ("information", "warning", "error"):
            app.notify("a notice", severity=kind)  # type: ignore[arg-type]
            await shows(pilot, "a notice")
            signs |= {sign for sign in "·▲✗" if f"{sign} a notice" in screen_text(app)}
            app.notices.clear()
            await until(pilot, lambda: "a notice" not in screen_text(app))
    assert len(signs) == 3


async def test_a_theme_is_not_offered_where_it_changes_nothing(no_color: None, cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "> demo", "OK")
        app.do_theme()
        await shows(pilot, "NO_COLOR is set")


def test_curves_in_one_chart_have_letters() -> None:
    flat = tuple(Point(float(x), 2.0, 2.0, 2.0) for x in range(20))
    steep = tuple(Point(float(x), float(x), float(x), float(x)) for x in range(20))
    shown = "\n".join(
        "".join(text for text, _ in row)
        for row in draw(ChartData(series=(Series(flat, "dim", "d"), Series(steep, "bold", "r"))), 60, 12)
    )
    assert "d" in shown
    assert "r" in shown


async def test_the_memory_curves_are_told_apart_without_color(no_color: None, cpu_machine: object) -> None:
    run = make_run()
    record(run, 80)
    with run.events_path.open("a") as file:
        for second in range(40):
            sizes = {f"{name}_bytes": (50 - 5 * at + second % 3) * GIB for at, name in enumerate(MEASURED)}
            event = {"v": 1, "seq": 900 + second, "t": time.time() + second, "type": "memory", **sizes}
            file.write(json.dumps(event) + "\n")
    app = attached(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "step 80")
        await pilot.press("t", "t", "t", "t")
        await shows(pilot, "d device", "p process", "r reserved", "a allocated")
